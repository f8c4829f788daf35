"""The checks that decide whether a boot is a good one.

Each has a stable name, a limit in seconds and a result: pass, fail or not_applicable, with a
reason. All that apply must pass.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from product.agent.config import Config
from product.agent.durable import make_directories, write_all
from product.agent.errors import AgentError
from product.agent.node import Node

PASS = "pass"
FAIL = "fail"
NOT_APPLICABLE = "not_applicable"

PROBE_BYTES = 1024
PROBE_NAME = "health-probe"


class Result(NamedTuple):
    """What a check found."""

    name: str
    result: str
    reason: str


class HealthContext(NamedTuple):
    """What checks look at; ``unconfirmed`` while the booted slot is on trial."""

    node: Node
    config: Config
    unconfirmed: bool


class Check(NamedTuple):
    """One check; ``probe(context, limit)`` returns (result, reason).

    ``lasting``: a second look cannot change the answer within one boot, so it is taken once.
    """

    name: str
    limit: float
    probe: Callable[[HealthContext, float], tuple[str, str]]
    lasting: bool = False

    def run(self, context: HealthContext, limit: float) -> Result:
        """The result; a probe that cannot be carried out has failed."""
        try:
            return Result(self.name, *self.probe(context, min(limit, self.limit)))
        except AgentError as error:
            return Result(self.name, FAIL, error.message)
        except OSError as error:
            return Result(self.name, FAIL, f"{error.strerror or error} ({error.filename})")


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


def _kubernetes(context: HealthContext, limit: float) -> tuple[str, str]:
    if not os.path.exists(context.node.paths.payload):
        return NOT_APPLICABLE, "the image carries no Kubernetes"
    # A slot must not be committed on a check that nobody made.
    return FAIL, "the image carries Kubernetes, which this version of the agent cannot judge"


def _probe_url(context: HealthContext, limit: float) -> tuple[str, str]:
    url = context.config.healthcheck_url
    if not url:
        return NOT_APPLICABLE, "no healthcheck_url is set"
    from product.agent.probe import get_status

    status = get_status(url, limit)
    if status == 200:
        return PASS, f"{url} answered 200"
    return FAIL, f"{url} answered {status}, not 200"


CHECKS = (
    Check("disk_writable", 10, _disk_writable),
    Check("slot_integrity", 120, _slot_integrity, lasting=True),
    Check("containerd", 10, _kubernetes),
    Check("api_server", 10, _kubernetes),
    Check("node_ready", 10, _kubernetes),
    Check("kube_system", 60, _kubernetes),
    Check("probe_url", 10, _probe_url),
)


def run_once(context: HealthContext, checks: Sequence[Check] = CHECKS) -> list[Result]:
    """Every check once, in order."""
    return [check.run(context, check.limit) for check in checks]


def run_until(
    context: HealthContext, seconds: float, checks: Sequence[Check] = CHECKS
) -> list[Result]:
    """Run ``checks`` again and again until all pass in one round, at most for ``seconds``."""
    clock = context.node.clock
    end = clock.monotonic() + seconds
    lasting: dict[str, Result] = {}
    while True:
        results = []
        for check in checks:
            result = lasting.get(check.name)
            if result is None:
                result = check.run(context, max(1.0, end - clock.monotonic()))
            if check.lasting:
                lasting[check.name] = result
            results.append(result)
        over = clock.monotonic() >= end or any(r.result == FAIL for r in lasting.values())
        if all_pass(results) or over:
            return results
        clock.pause(min(1.0, max(0.0, end - clock.monotonic())))


def all_pass(results: Sequence[Result]) -> bool:
    """Whether nothing failed."""
    return not any(result.result == FAIL for result in results)


def describe_failures(results: Sequence[Result]) -> str:
    """``name: reason`` of every failed check."""
    return "; ".join(f"{r.name}: {r.reason}" for r in results if r.result == FAIL)
