"""The checks that decide whether a boot is a good one.

Each has a stable name, a limit in seconds and a result: pass, fail, known or not_applicable, with a
reason. A fault is known where the baseline (product.agent.update.baseline) had it before the
update. All that apply must pass or be known. What asks the disk does so in a child process
(product.agent.system.isolation), because a disk may never answer.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from product.agent.config import Config
from product.agent.errors import AgentError, hide_logins
from product.agent.node import Node
from product.agent.system.files import make_directories, read_bounded, write_all
from product.agent.system.isolation import IsolatedRunner, NoAnswerError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from product.agent.kubernetes.cluster import Cluster
    from product.agent.net.interfaces import Interface

PASS = "pass"
FAIL = "fail"
KNOWN = "known"
NOT_APPLICABLE = "not_applicable"
PROBE_BYTES = 1024
PROBE_NAME = "health-probe"
DISK_SECONDS = 10
MAX_REASON = 64 * 1024
# Kubernetes takes minutes to start on the slowest machines that it runs on.
DEADLINE = 120
DEADLINE_WITH_KUBERNETES = 300
# A boot on trial without a verdict is ended by the service health when this and what the checks may
# take are long over (/usr/lib/kubesolo/trial-limit).
LONGEST_DEADLINE = 3600
# The network's may come back late after a restart of switches, and DHCP asks every few seconds.
NETWORK_SECONDS = 60
Answer = (
    tuple[str, str]
    | tuple[str, str, tuple[str, ...]]
    | tuple[str, str, tuple[str, ...], str | None]
)


class Result(NamedTuple):
    """What a check found. ``subjects`` tell faults of one check apart (see the checks; none where
    there can be only one); ``before`` is the reason that the baseline gave for a known fault;
    ``limit`` is the check's, in seconds (None in what an older agent wrote)."""

    name: str
    result: str
    reason: str
    subjects: tuple[str, ...] = ()
    before: str | None = None
    limit: float | None = None


class HealthContext:
    """What checks look at, and what they keep between two rounds.

    ``unconfirmed`` while the booted slot is on trial. Pods of kube-system must have been well for
    ``settle`` seconds; with ``restless``, one that was restarted so many seconds ago has failed.
    ``network`` are the interfaces before the update, None where nobody looked.
    """

    def __init__(
        self,
        node: Node,
        config: Config,
        unconfirmed: bool,
        *,
        settle: float = 0,
        restless: float = 0,
        network: Sequence[Interface] | None = None,
    ) -> None:
        self.node = node
        self.config = config
        self.unconfirmed = unconfirmed
        self.settle = settle
        self.restless = restless
        self.network = network
        self.isolated = IsolatedRunner()
        self._cluster: Cluster | None = None

    @property
    def has_kubernetes(self) -> bool:
        """Whether the image carries a payload, be it a damaged one."""
        return os.path.exists(self.node.paths.payload)

    @property
    def deadline(self) -> float:
        """Seconds that a boot has to become healthy."""
        default = DEADLINE_WITH_KUBERNETES if self.has_kubernetes else DEADLINE
        configured = self.config.healthcheck_deadline
        return default if configured is None else min(configured, LONGEST_DEADLINE)

    @property
    def cluster(self) -> Cluster | None:
        """None where the image carries no Kubernetes. Raises PayloadError."""
        if self._cluster is None and self.has_kubernetes:
            from product.agent.kubernetes.cluster import find_cluster

            self._cluster = find_cluster(self.node)
        return self._cluster

    @property
    def settling(self) -> bool:
        """Whether in the last round kube_system failed only because time must pass."""
        return self._cluster is not None and self._cluster.settling

    def stop_giving_way(self) -> None:
        """Work at the usual priority, below which the boot-time service was started."""
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, 0)

    def close(self) -> None:
        """Drop connections."""
        if self._cluster:
            self._cluster.close()


class Check(NamedTuple):
    """One check; ``probe(context, limit)`` returns result and reason, and perhaps subjects and
    what was before, in the order of Result.

    ``lasting``: a second look cannot change the answer within one boot, so it is taken once.
    ``holds``: seconds for which a pass need not be repeated.
    ``isolated``: the probe runs in a child process, which is left behind when its time
    is up; it has no limit of its own and no subjects.
    """

    name: str
    limit: float
    probe: Callable[[HealthContext, float], Answer]
    lasting: bool = False
    holds: float = 0
    isolated: bool = False

    def run(self, context: HealthContext, limit: float) -> Result:
        """The result; a probe that cannot be carried out has failed."""
        limit = min(limit, self.limit)
        look = self._look_isolated if self.isolated else self._look
        found = look(context, limit)
        return Result(self.name, *found)._replace(limit=self.limit)

    def _look(self, context: HealthContext, limit: float) -> Answer:
        try:
            return self.probe(context, limit)
        except AgentError as error:
            return FAIL, error.message
        except OSError as error:
            return FAIL, f"{error.strerror or error} ({error.filename})"

    def _look_isolated(self, context: HealthContext, limit: float) -> Answer:
        def question() -> bytes:
            return "\0".join(self._look(context, limit)[:2]).encode(errors="replace")

        try:
            answer = context.isolated.run(self.name, limit, question)
        except NoAnswerError as error:
            return FAIL, error.message
        except OSError as error:
            return FAIL, f"cannot ask: {error.strerror or error}"
        result, _, reason = answer.decode().partition("\0")
        return result, reason


def _data_partition(context: HealthContext, limit: float) -> tuple[str, str]:
    data = context.node.boot.data
    if data == "nopersist" and context.node.boot.live:
        return NOT_APPLICABLE, "the live system found no disk for it"
    if data == "nopersist":
        return NOT_APPLICABLE, "the command line asks for none (kubesolo.nopersist)"
    if data != "persistent":
        # Everything would seem well: a Kubernetes without any workload, in memory.
        return (
            FAIL,
            f"{context.node.paths.data} lies in memory: early boot mounted no data partition",
        )
    try:
        why = read_bounded(context.node.paths.migration_failed, MAX_REASON)
        return FAIL, f"its data are not of this release's layout: {why.decode(errors='replace')}"
    except FileNotFoundError:
        return PASS, f"{context.node.paths.data} lies on it"


def disk_writable(context: HealthContext, limit: float) -> tuple[str, str]:
    directory = context.node.paths.data
    path = f"{directory}/{PROBE_NAME}"
    probe = os.urandom(PROBE_BYTES)
    make_directories(directory)
    flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o600)
    try:
        write_all(descriptor, probe)
        os.fsync(descriptor)
        # Otherwise the answer would come from memory.
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        found = os.pread(descriptor, PROBE_BYTES + 1, 0)
    finally:
        os.close(descriptor)
        with suppress(OSError):
            os.unlink(path)
    if found != probe:
        return FAIL, f"{directory} gave back other bytes than were written"
    return PASS, f"{PROBE_BYTES} bytes written to {directory} and read back"


def _slot_integrity(context: HealthContext, limit: float) -> tuple[str, str]:
    if not context.unconfirmed:
        return NOT_APPLICABLE, "the slot is confirmed"
    from product.agent.slots.store import SlotStore

    node = context.node
    SlotStore(node.paths, node.volumes, node.boot).verify(node.boot.slot)
    return PASS, f"slot {node.boot.slot} is what its manifest says"


def _network(context: HealthContext, limit: float) -> Answer:
    from product.agent.health.network import check_network

    return check_network(context.node, context.network, context.unconfirmed, limit)


NO_KUBERNETES = (NOT_APPLICABLE, "the image carries no Kubernetes")


def _containerd(context: HealthContext, limit: float) -> Answer:
    cluster = context.cluster
    return cluster.containerd(limit) if cluster else NO_KUBERNETES


def _api_server(context: HealthContext, limit: float) -> Answer:
    cluster = context.cluster
    return cluster.api_server(limit) if cluster else NO_KUBERNETES


def _node_ready(context: HealthContext, limit: float) -> Answer:
    cluster = context.cluster
    return cluster.node_ready(limit) if cluster else NO_KUBERNETES


def _kube_system(context: HealthContext, limit: float) -> Answer:
    cluster = context.cluster
    if cluster is None:
        return NO_KUBERNETES
    return cluster.kube_system(
        limit, context.settle, context.restless, on_trial=context.unconfirmed
    )


def _probe_url(context: HealthContext, limit: float) -> Answer:
    url = context.config.healthcheck_url
    if not url:
        return NOT_APPLICABLE, "no healthcheck_url is set"
    from product.agent.health.probe import ProbeError, get_status

    shown = hide_logins(url)
    try:
        status = get_status(url, limit)
    except ProbeError as error:
        return FAIL, error.message, (shown,)
    if status == 200:
        return PASS, f"{shown} answered 200"
    return FAIL, f"{shown} answered {status}, not 200", (shown,)


# The subject of kube_system is the pod's workload, that of probe_url the URL; node_ready and
# kube_system name the API server where that is what is missing.
CHECKS = (
    Check("data_partition", 1, _data_partition, lasting=True),
    Check("disk_writable", DISK_SECONDS, disk_writable, holds=10, isolated=True),
    # A full slot of 512 MiB from a card that gives 1 MB/s while Kubernetes starts from it.
    Check("slot_integrity", 600, _slot_integrity, lasting=True, isolated=True),
    # Before what needs it. Looks until the network is there or the limit is over.
    Check("network", NETWORK_SECONDS, _network, lasting=True),
    Check("containerd", 5, _containerd, holds=5),
    Check("api_server", 5, _api_server),
    Check("node_ready", 5, _node_ready),
    Check("kube_system", 10, _kube_system),
    Check("probe_url", 10, _probe_url, holds=10),
)
# What a confirmed boot waits for.
KUBERNETES = tuple(
    c for c in CHECKS if c.name in ("containerd", "api_server", "node_ready", "kube_system")
)
