"""Planned reboots."""

from __future__ import annotations

from collections.abc import Callable

from product.agent.config import Config
from product.agent.node import Node
from product.agent.update.gates import WINDOW_GATE, GateContext, require
from product.errors import KubesoloError


def reboot_in_window(
    node: Node, config: Config, *, force: bool, announce: Callable[[], object]
) -> None:
    """Reboot now. The window is asked again here, for an update may outlast it.

    ``announce`` tells the command's result, once nothing refuses any more: from the reboot nothing
    may come back. Raises RefusedError, and what the reboot raises, which is ``told`` then.
    """
    require([WINDOW_GATE.evaluate(GateContext(node, config, force))])
    announce()
    try:
        node.reboot()
    except KubesoloError as error:
        error.told = True
        raise
