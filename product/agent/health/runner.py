"""Running the health checks: once for an operator, until they pass or time is up for a boot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from product.agent.config import Config
from product.agent.errors import EXIT_DONE, EXIT_FAILED, AgentError
from product.agent.health.checks import (
    CHECKS,
    DISK_SECONDS,
    FAIL,
    PASS,
    Check,
    HealthContext,
    Result,
    disk_writable,
)
from product.agent.node import Node
from product.agent.system.isolation import NoAnswerError

# A disk that has not answered by then is not merely slow: seconds.
HUNG_SECONDS = 60
# How long a round of checks may go on beyond the settle time, where pods come and go.
SETTLE_SLACK = 30

Excuse = Callable[[Result], Result]


class HealthResult(NamedTuple):
    """Every check's result, for whoever asked for them."""

    checks: list[Result]

    @property
    def healthy(self) -> bool:
        """Whether nothing failed."""
        return all_pass(self.checks)

    @property
    def exit_code(self) -> int:
        """Done or failed."""
        return EXIT_DONE if self.healthy else EXIT_FAILED

    def as_text(self) -> str:
        """For people: a line a check."""
        return "\n".join(f"{c.name}: {c.result} ({c.reason})" for c in self.checks)

    def as_document(self) -> dict[str, object]:
        """For programs: ``healthy``, and ``checks`` with the fields of Result."""
        return {"healthy": self.healthy, "checks": [check._asdict() for check in self.checks]}


def check_health(node: Node, config: Config) -> HealthResult:
    """Run the checks once, changing nothing."""
    unconfirmed = not node.boot_env.read().confirms(node.boot.slot)
    context = HealthContext(node, config, unconfirmed, settle=config.kube_system_settle)
    return HealthResult(run_once(context))


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
    return max(DISK_SECONDS if check.isolated else 1.0, left)


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
            disk_writable(context, HUNG_SECONDS)
        # Not on the same disk everywhere.
        context.node.boot_env.read()
        return b"answered"

    try:
        context.isolated.run("disk_writable", HUNG_SECONDS, question)
    except NoAnswerError:
        return False
    except OSError:
        return True  # There was nobody to ask it.
    return True


def describe_failures(results: Sequence[Result]) -> str:
    """``name: reason`` of every failed check."""
    return "; ".join(f"{r.name}: {r.reason}" for r in results if r.result == FAIL)
