"""Planned reboots."""

from __future__ import annotations

from product.agent.config import Config
from product.agent.gates import WINDOW_GATE, GateContext, require
from product.agent.node import Node


def reboot_in_window(node: Node, config: Config, *, force: bool) -> None:
    """Reboot now. The window is asked again here, for an update may outlast it.

    Raises RefusedError.
    """
    require([WINDOW_GATE.ask(GateContext(node, config, force))])
    node.reboot()
