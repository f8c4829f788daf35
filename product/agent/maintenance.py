"""What ``status`` says of the maintenance window: which it is, in which zone, when it opens."""

from __future__ import annotations

from product.agent.config import Config
from product.agent.errors import ConfigError
from product.agent.node import Node
from product.agent.system.clock import timestamp
from product.agent.system.zone import read_zone, window_unknown
from product.agent.window import next_opening


def find(node: Node, config: Config) -> dict[str, object]:
    """When the node may reboot by itself, in its time zone."""
    clock, window = node.clock, config.maintenance_window
    problem, now, opens = window_unknown(node.paths, config), clock.now(), None
    if problem is None:
        try:
            opens = next_opening(window, now, clock.local_minute)
        except ConfigError as error:
            problem = error.message
    return {
        "window": window,
        "zone": _zone(node),
        "open": opens is not None and opens <= now,
        "opens": None if opens is None else int(opens),
        "problem": problem,
    }


def _zone(node: Node) -> str:
    """The zone's name where one is configured, and what the clock says of it."""
    try:
        name = read_zone(node.paths)
    except (OSError, ValueError):
        name = ""
    clock = node.clock.zone()
    return f"{name} ({clock})" if name else clock


def as_text(found: dict[str, object]) -> str:
    """One line for people."""
    if found["problem"]:
        return f"not known, so closed: {found['problem']}"
    if not found["window"]:
        return "always open"
    opens = found["opens"]
    if found["open"]:
        when = "open now"
    elif isinstance(opens, int):
        when = f"opens {timestamp(opens)}"
    else:
        when = "never opens"
    return f"{found['window']} {found['zone']}, {when}"
