"""The node's clock: wrong at first, right once somebody can be asked, and remembered."""

from __future__ import annotations

from collections.abc import Callable

from harness.faults.ntp import TimeServer
from harness.target.node import Node
from scenarios.set_up import set_up
from scenarios.steps import Update

Serve = Callable[..., Update]
# A node whose clock is right is off by less, on a host that is busy.
SECONDS = 10.0
SYNCHRONISED_SECONDS = 60.0


@set_up
def _ask(node: Node, server: TimeServer) -> None:
    """Configure the server, from now on."""
    node.put(f"# ours\n{server.guest_name}\n", "/etc/kubesolo/ntp")
    node.succeed("sync && sv -w 10 restart /run/service/time")


def _clock(node: Node) -> float:
    """What the node's clock shows, in seconds since 1970."""
    return float(node.succeed("date +%s").text)
