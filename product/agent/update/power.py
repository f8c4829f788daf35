"""Planned reboots."""

from __future__ import annotations

from product.agent.config import Config
from product.agent.node import Node
from product.agent.update.gates import WINDOW_GATE, GateContext, require


def reboot_in_window(node: Node, config: Config, *, force: bool) -> None:
    """Reboot now. The window is asked again here, for an update may outlast it.

    Raises RefusedError.
    """
    require([WINDOW_GATE.evaluate(GateContext(node, config, force))])
    node.reboot()
