"""An operator's programs that run at an update's steps: ``/etc/kubesolo/hooks.d``.

A hook is an executable file ``EVENT`` or ``EVENT.NAME``; several run in the order of their names,
each for ``hook_timeout`` seconds at most. It belongs to root, and nobody else may write to it. What
fails before something stops it (HookError); what fails after something is a sentence that goes to
the history. The environment has ``KUBESOLO_EVENT`` and, where it is known, ``_FROM_VERSION``,
``_TO_VERSION``, ``_SLOT`` (the one that the event is about) and ``_REASON``.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator

from product.agent.config import Config
from product.agent.errors import AgentError
from product.agent.node import Node
from product.agent.records.state import UpdateState
from product.agent.system.program import run_limited

BEFORE_APPLY, BEFORE_REBOOT = "before-apply", "before-reboot"
# Of what a hook printed, the last characters are told.
TOLD = 300
_NAME = re.compile(
    r"(before-apply|after-apply|before-reboot|after-commit|after-rollback)(\.[\w-]+)?"
)


class HookError(AgentError):
    """A hook that runs before a step failed, so the step is not taken."""

    code = "hook-failed"


def require_hooks(node: Node, config: Config, event: str, state: UpdateState) -> None:
    """Run the hooks that stand before a step. Raises HookError at the first that fails."""
    for problem in _run(node, config, event, state):
        raise HookError(
            problem, hint=f"correct the hook, or take it out of {node.paths.hooks}: it may refuse"
        )


def run_hooks(node: Node, config: Config, event: str, state: UpdateState) -> list[str]:
    """Run the hooks that stand after a step; what failed."""
    return list(_run(node, config, event, state))


def _run(node: Node, config: Config, event: str, state: UpdateState) -> Iterator[str]:
    folder = node.paths.hooks
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return
    except OSError as error:
        yield f"{folder} cannot be read: {error.strerror}"
        return
    facts = {
        "EVENT": event,
        "FROM_VERSION": state.from_version,
        "TO_VERSION": state.to_version,
        "SLOT": state.to_slot,
        "REASON": state.last_error,
    }
    environment = {f"KUBESOLO_{name}": value for name, value in facts.items() if value}
    for name in names:
        found = _NAME.fullmatch(name)
        if found is None or found[1] != event:
            continue
        if problem := _run_one(f"{folder}/{name}", config.hook_timeout, environment):
            yield f"the hook {name} {problem}"


def _run_one(path: str, seconds: int, environment: dict[str, str]) -> str | None:
    """What went wrong; None where the hook ended with 0."""
    try:
        if problem := _unsafe(os.stat(path)):
            return f"is not run: {problem}"
        status, output = run_limited([path], seconds, environment)
    except (OSError, AgentError) as error:
        return f"cannot be run: {error}"
    said = " ".join(output.split())[-TOLD:]
    told = f": {''.join(c if c.isprintable() else '?' for c in said)}" if said else ""
    if status is None:
        return f"did not end within {seconds} s{told}"
    return f"ended with {status}{told}" if status else None


def _unsafe(found: os.stat_result) -> str | None:
    if not stat.S_ISREG(found.st_mode):
        return "it is no file"
    if found.st_uid != os.geteuid():
        return "it does not belong to root"
    if found.st_mode & 0o022:
        return "others than root may write to it"
    return None if found.st_mode & 0o100 else "it is not executable"
