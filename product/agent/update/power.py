"""Planned reboots."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from product.agent.config import Config
from product.agent.errors import RefusedError
from product.agent.node import Node
from product.agent.update.gates import REBOOT_GATES, GateContext, Verdict, evaluate, require
from product.agent.update.hooks import BEFORE_REBOOT, require_hooks
from product.agent.update.record import count_refusal
from product.errors import KubesoloError


def require_counted(node: Node, verdicts: Sequence[Verdict]) -> None:
    """The gates before a reboot, outside of an attempt. Raises RefusedError, which is counted."""
    try:
        require(verdicts)
    except RefusedError as error:
        count_refusal(node, error.code)
        raise


def reboot_in_window(
    node: Node, config: Config, *, force: bool, announce: Callable[[], object]
) -> None:
    """Reboot now. Window and inhibitors are asked again here, for an update may outlast them.

    ``announce`` tells the command's result, once nothing refuses any more: from the reboot nothing
    may come back. Raises RefusedError, HookError, and what the reboot raises, then ``told``.
    """
    require_counted(node, evaluate(REBOOT_GATES, GateContext(node, config, force)))
    require_hooks(node, config, BEFORE_REBOOT, node.load_state().state)
    announce()
    try:
        node.reboot()
    except KubesoloError as error:
        error.told = True
        raise
