"""Planned reboots."""

from __future__ import annotations

from collections.abc import Callable

from product.agent.config import Config
from product.agent.node import Node
from product.agent.update.gates import REBOOT_GATES, GateContext, evaluate, require
from product.agent.update.hooks import BEFORE_REBOOT, require_hooks
from product.errors import KubesoloError


def reboot_in_window(
    node: Node, config: Config, *, force: bool, announce: Callable[[], object]
) -> None:
    """Reboot now. Window and inhibitors are asked again here, for an update may outlast them.

    ``announce`` tells the command's result, once nothing refuses any more: from the reboot nothing
    may come back. Raises RefusedError, HookError, and what the reboot raises, then ``told``.
    """
    require(evaluate(REBOOT_GATES, GateContext(node, config, force)))
    require_hooks(node, config, BEFORE_REBOOT, node.load_state().state)
    announce()
    try:
        node.reboot()
    except KubesoloError as error:
        error.told = True
        raise
