"""The address under which the node is reached: that of the interface with the default route."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from product.agent.errors import AgentError
from product.agent.system import program
from product.node.paths import NodePaths

# RFC 5737 sets it aside for documentation: it can be no other machine's. Kubernetes refuses
# loopback addresses as a node's, so a node without a network needs one that is not.
UNCONNECTED = "192.0.2.1"
DHCP_SECONDS = 20.0
POLL_SECONDS = 0.1


def default_interface(routes: str) -> str | None:
    """The interface of the default route with the least metric in /proc/net/route's text."""
    best: tuple[int, str] | None = None
    for line in routes.splitlines()[1:]:
        fields = line.split()
        # Destination and mask zero; flag 1 says that the route is up.
        if len(fields) < 8 or fields[1] != "00000000" or fields[7] != "00000000":
            continue
        if not int(fields[3], 16) & 1:
            continue
        found = (int(fields[6]), fields[0])
        if best is None or found < best:
            best = found
    return best[1] if best else None


def first_address(listing: str) -> str | None:
    """The first global IPv4 address in what ``ip -4 -o addr show`` prints."""
    for line in listing.splitlines():
        fields = line.split()
        if "inet" in fields and "global" in fields:
            return fields[fields.index("inet") + 1].partition("/")[0]
    return None


def present_address(paths: NodePaths) -> str | None:
    """The node's address now, if it has one."""
    try:
        with open(paths.routes, encoding="ascii") as file:
            interface = default_interface(file.read())
    except (OSError, ValueError):
        return None
    if interface is None:
        return None
    try:
        status, listing = program.run(["ip", "-4", "-o", "addr", "show", "dev", interface])
    except AgentError:
        return None
    return first_address(listing) if status == 0 else None


def has_address(wanted: str) -> bool:
    """Whether any interface has this very address."""
    try:
        status, listing = program.run(["ip", "-o", "addr", "show"])
    except AgentError:
        return False
    fields = (line.split() for line in listing.splitlines()) if status == 0 else ()
    return any(field.partition("/")[0] == wanted for row in fields for field in row)


def wait_for_address(
    paths: NodePaths,
    seconds: float = DHCP_SECONDS,
    look: Callable[[NodePaths], str | None] = present_address,
) -> str | None:
    """The node's address; None where there is none after ``seconds``, or no network device."""
    end = time.monotonic() + seconds
    while True:
        if found := look(paths):
            return found
        if time.monotonic() >= end or not _has_device(paths):
            return None
        time.sleep(POLL_SECONDS)


def take_unconnected_address() -> bool:
    """Give the loopback device an address that Kubernetes accepts; whether it has it now."""
    try:
        status, output = program.run(["ip", "addr", "add", f"{UNCONNECTED}/32", "dev", "lo"])
    except AgentError:
        return False
    return status == 0 or "exists" in output


def _has_device(paths: NodePaths) -> bool:
    try:
        return any(name != "lo" for name in os.listdir(paths.devices))
    except OSError:
        return False
