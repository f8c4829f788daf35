"""The checks that decide whether a boot is a good one.

Each has a stable name, a limit in seconds and a result: pass, fail, known or not_applicable, with a
reason. A fault is known where the baseline (product.agent.baseline) had it before the update. All
that apply must pass or be known. What asks the disk does so apart (product.agent.apart), because a
disk may never answer.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from product.agent.apart import Apart, NoAnswerError
from product.agent.config import Config
from product.agent.durable import make_directories, write_all
from product.agent.errors import AgentError
from product.agent.node import Node

if TYPE_CHECKING:
    from product.agent.cluster import Cluster

PASS = "pass"
FAIL = "fail"
KNOWN = "known"
NOT_APPLICABLE = "not_applicable"

PROBE_BYTES = 1024
PROBE_NAME = "health-probe"
DISK_SECONDS = 10
# A disk that has not answered by then is not merely slow: seconds.
HUNG_SECONDS = 60
# Kubernetes takes minutes to start on the slowest machines that it runs on.
DEADLINE = 120
DEADLINE_WITH_KUBERNETES = 300
# A boot on trial without a verdict is ended by the service health when this and what the checks may
# take are long over (/usr/lib/kubesolo/trial-limit).
LONGEST_DEADLINE = 3600
# How long a round of checks may go on beyond the settle time, where pods come and go.
SETTLE_SLACK = 30

Answer = tuple[str, str] | tuple[str, str, tuple[str, ...]]


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


Excuse = Callable[[Result], Result]


class HealthContext:
    """What checks look at, and what they keep between two rounds.

    ``unconfirmed`` while the booted slot is on trial. Pods of kube-system must have been well for
    ``settle`` seconds; with ``restless``, one that was restarted so many seconds ago has failed.
    """

    def __init__(
        self,
        node: Node,
        config: Config,
        unconfirmed: bool,
        *,
        settle: float = 0,
        restless: float = 0,
    ) -> None:
        self.node = node
        self.config = config
        self.unconfirmed = unconfirmed
        self.settle = settle
        self.restless = restless
        self.apart = Apart()
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
            from product.agent.cluster import find_cluster

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
    """One check; ``probe(context, limit)`` returns (result, reason) or (result, reason, subjects).

    ``lasting``: a second look cannot change the answer within one boot, so it is taken once.
    ``holds``: seconds for which a pass need not be repeated.
    ``apart``: the probe has no limit of its own and no subjects; it is left behind when its time
    is up.
    """

    name: str
    limit: float
    probe: Callable[[HealthContext, float], Answer]
    lasting: bool = False
    holds: float = 0
    apart: bool = False

    def run(self, context: HealthContext, limit: float) -> Result:
        """The result; a probe that cannot be carried out has failed."""
        limit = min(limit, self.limit)
        look = self._look_apart if self.apart else self._look
        found = look(context, limit)
        return Result(self.name, *found)._replace(limit=self.limit)

    def _look(self, context: HealthContext, limit: float) -> Answer:
        try:
            return self.probe(context, limit)
        except AgentError as error:
            return FAIL, error.message
        except OSError as error:
            return FAIL, f"{error.strerror or error} ({error.filename})"

    def _look_apart(self, context: HealthContext, limit: float) -> Answer:
        def question() -> bytes:
            return "\0".join(self._look(context, limit)[:2]).encode(errors="replace")

        try:
            answer = context.apart.ask(self.name, limit, question)
        except NoAnswerError as error:
            return FAIL, error.message
        except OSError as error:
            return FAIL, f"cannot ask: {error.strerror or error}"
        result, _, reason = answer.decode().partition("\0")
        return result, reason


def _data_partition(context: HealthContext, limit: float) -> tuple[str, str]:
    data = context.node.boot.data
    if data == "nopersist":
        return NOT_APPLICABLE, "the command line asks for none (kubesolo.nopersist)"
    if data != "persistent":
        # Everything would seem well: a Kubernetes without any workload, in memory.
        return (
            FAIL,
            f"{context.node.paths.data} lies in memory: early boot mounted no data partition",
        )
    return PASS, f"{context.node.paths.data} lies on it"


def _disk_writable(context: HealthContext, limit: float) -> tuple[str, str]:
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
    from product.agent.slots import SlotStore

    node = context.node
    SlotStore(node.paths, node.volumes, node.boot).verify(node.boot.slot)
    return PASS, f"slot {node.boot.slot} is what its manifest says"


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
    from product.agent.probe import ProbeError, get_status

    try:
        status = get_status(url, limit)
    except ProbeError as error:
        return FAIL, error.message, (url,)
    if status == 200:
        return PASS, f"{url} answered 200"
    return FAIL, f"{url} answered {status}, not 200", (url,)


# The subject of kube_system is the pod's workload, that of probe_url the URL; node_ready and
# kube_system name the API server where that is what is missing.
CHECKS = (
    Check("data_partition", 1, _data_partition, lasting=True),
    Check("disk_writable", DISK_SECONDS, _disk_writable, holds=10, apart=True),
    # A full slot of 512 MiB from a card that gives 1 MB/s while Kubernetes starts from it.
    Check("slot_integrity", 600, _slot_integrity, lasting=True, apart=True),
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


def run_once(context: HealthContext, checks: Sequence[Check] = CHECKS) -> list[Result]:
    """Every check once, in order; again only while nothing but kube_system's settle time is
    missing."""
    clock = context.node.clock
    end = clock.monotonic() + context.settle + SETTLE_SLACK
    results = [check.run(context, check.limit) for check in checks]
    while context.settling and clock.monotonic() < end:
        failed = [i for i, result in enumerate(results) if result.result == FAIL]
        if [results[i].name for i in failed] != ["kube_system"]:
            break
        clock.pause(1.0)
        results[failed[0]] = checks[failed[0]].run(context, checks[failed[0]].limit)
    context.close()
    return results


def run_until(
    context: HealthContext,
    seconds: float,
    checks: Sequence[Check] = CHECKS,
    excuse: Excuse | None = None,
) -> list[Result]:
    """Run ``checks`` again and again until all pass in one round, at most for ``seconds``.

    ``excuse`` may turn a failure into a known one: at once where a pod or an address was seen to
    fail, and only when time is up where Kubernetes itself does not answer. It may just not be up
    yet, and a release whose Kubernetes was never seen is not committed any sooner.
    """
    clock = context.node.clock
    end = clock.monotonic() + seconds
    held: dict[str, tuple[Result, float]] = {}
    while True:
        results = []
        for check in checks:
            now = clock.monotonic()
            result, until = held.get(check.name, (None, now))
            if result is None or now >= until:
                result = check.run(context, _time_for(check, end - now))
                if excuse and result.result == FAIL and _was_seen(result):
                    result = excuse(result)
                if check.lasting:
                    held[check.name] = result, float("inf")
                elif result.result == PASS:
                    held[check.name] = result, now + check.holds
            results.append(result)
            if result.name == "node_ready" and result.result != FAIL:
                context.stop_giving_way()
        lost = any(
            check.lasting and r.result == FAIL for check, r in zip(checks, results, strict=True)
        )
        over = clock.monotonic() >= end
        if all_pass(results) or lost or over:
            context.close()
            if excuse and over:
                results = [excuse(r) if r.result == FAIL else r for r in results]
            return results
        clock.pause(min(1.0, max(0.0, end - clock.monotonic())))


def _time_for(check: Check, left: float) -> float:
    """Seconds for one look, at the end of the deadline too: a slow disk is excused by nothing."""
    if check.lasting:
        return check.limit
    return max(DISK_SECONDS if check.apart else 1.0, left)


def _was_seen(result: Result) -> bool:
    """Whether the failure is that of what was asked for, not that nobody could be asked."""
    unasked = {"api_server", "node"}.intersection(result.subjects)
    return result.name in ("kube_system", "probe_url") and not unasked


def all_pass(results: Sequence[Result]) -> bool:
    """Whether nothing failed that is not known."""
    return not any(result.result == FAIL for result in results)


def disk_answers(context: HealthContext) -> bool:
    """Whether what giving up a boot writes to comes to an end, be it an error."""

    def question() -> bytes:
        with suppress(AgentError, OSError):
            _disk_writable(context, HUNG_SECONDS)
        # Not on the same disk everywhere.
        context.node.boot_env.read()
        return b"answered"

    try:
        context.apart.ask("disk_writable", HUNG_SECONDS, question)
    except NoAnswerError:
        return False
    except OSError:
        return True  # There was nobody to ask it.
    return True


def describe_failures(results: Sequence[Result]) -> str:
    """``name: reason`` of every failed check."""
    return "; ".join(f"{r.name}: {r.reason}" for r in results if r.result == FAIL)
