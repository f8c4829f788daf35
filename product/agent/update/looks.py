"""Writing down what a look for a release came to, for ``status``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from product.agent.errors import AgentError, BusyError, ConfigError, RefusedError
from product.agent.node import Node
from product.agent.records import last_check
from product.agent.records.last_check import LastCheck, write_last_check
from product.agent.system.clock import timestamp
from product.agent.update.gates import INHIBITOR_GATE, WINDOW_GATE
from product.agent.update.operations import ApplyResult, CheckResult

_T = TypeVar("_T")
# They refuse before anybody is asked.
_BEFORE = (WINDOW_GATE.name, INHIBITOR_GATE.name)


def noted_check(node: Node, look: Callable[[], CheckResult]) -> CheckResult:
    """What ``look`` finds, which is noted. Raises what it raises."""
    result = _noted(node, look)
    release = result.offer.release if result.offer else None
    if release is None:
        _note(node, last_check.UP_TO_DATE)
    elif result.refusals:
        first = result.refusals[0]
        said = (release.version, release.digest, first.gate, first.reason)
        _note(node, last_check.REFUSED, *said)
    else:
        _note(node, last_check.AVAILABLE, release.version, release.digest)
    return result


def noted_apply(node: Node, apply: Callable[[], ApplyResult]) -> ApplyResult:
    """What ``apply`` stages, which is noted. Raises what it raises."""
    result = _noted(node, apply)
    if result.staged is None:
        _note(node, last_check.UP_TO_DATE)
    else:
        _note(node, last_check.AVAILABLE, result.staged, result.digest)
    return result


def _noted(node: Node, look: Callable[[], _T]) -> _T:
    try:
        return look()
    except RefusedError as error:
        if error.code not in _BEFORE:
            state = node.load_state().state
            said = (state.to_version, state.to_digest, error.code, error.message)
            _note(node, last_check.REFUSED, *said)
        raise
    except (BusyError, ConfigError):
        raise
    except AgentError as error:
        _note(node, last_check.FAILED, None, None, error.code, error.message)
        raise


def _note(
    node: Node,
    outcome: str,
    version: str | None = None,
    digest: str | None = None,
    code: str | None = None,
    reason: str | None = None,
) -> None:
    found = LastCheck(timestamp(node.clock.now()), outcome, version, digest, code, reason)
    write_last_check(node.paths.last_check, found)
