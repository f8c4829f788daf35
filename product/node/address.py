"""The address under which the node is reached.

Kubernetes' certificates and the addresses of services hang on it, so it does not change without
need: as long as an interface has the known one, that stays. Else it is that of the default route's
interface; without a default route, as in a plant's own network, that of the first interface which
has one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from product.agent.errors import AgentError
from product.agent.net.configured import LINK, STATIC, UNUSED
from product.agent.net.interfaces import Around, Interface, Network, read_network
from product.agent.system import program
from product.node.paths import NodePaths

# RFC 5737 sets it aside for documentation: it can be no other machine's. Kubernetes refuses
# loopback addresses as a node's, so a node without a network needs one that is not.
UNCONNECTED = "192.0.2.1"
DHCP_SECONDS = 20.0
# Once a card has an address, how long that of another one is waited for.
SETTLE_SECONDS = 3.0
POLL_SECONDS = 0.1


def choose(network: Network, known: str | None = None) -> str | None:
    """The node's address among those there are; ``known`` is the one it had."""
    there = [entry for entry in network.interfaces if _addresses(entry)]
    if any(known in _addresses(entry) for entry in there):
        return known
    order = [route.interface for route in network.routes or () if ":" not in route.gateway]
    order += [entry.name for entry in there if entry.reachable]
    order += [entry.name for entry in there]
    by_name = {entry.name: entry for entry in there}
    return next((_addresses(by_name[name])[0] for name in order if name in by_name), None)


def is_settled(network: Network, found: str, known: str | None) -> bool:
    """Whether nothing better than ``found`` may still come."""
    if found == known:
        return True
    routed = {route.interface for route in network.routes or ()}
    if known is None and any(
        found in _addresses(entry) and entry.name in routed for entry in network.interfaces
    ):
        return True
    return not any(_may_get_one(entry) for entry in network.interfaces)


def present_address(paths: NodePaths, known: str | None = None) -> str | None:
    """The node's address now, if it has one."""
    return choose(_read(paths), known)


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
    known: str | None = None,
    seconds: float = DHCP_SECONDS,
    look: Callable[[NodePaths], Network] | None = None,
) -> str | None:
    """The node's address; None where there is none after ``seconds``, or no network device."""
    look = look or _read
    begun = time.monotonic()
    first: float | None = None
    while True:
        network = look(paths)
        now = time.monotonic()
        if found := choose(network, known):
            first = first if first is not None else now
            if now - first >= SETTLE_SECONDS or is_settled(network, found, known):
                return found
        elif now - begun >= seconds or not _has_device(paths):
            return None
        time.sleep(POLL_SECONDS)


def take_unconnected_address() -> bool:
    """Give the loopback device an address that Kubernetes accepts; whether it has it now."""
    try:
        status, output = program.run(["ip", "addr", "add", f"{UNCONNECTED}/32", "dev", "lo"])
    except AgentError:
        return False
    return status == 0 or "exists" in output


def _addresses(entry: Interface) -> list[str]:
    """Its IPv4 addresses, without their prefixes."""
    found = (address.partition("/")[0] for address in entry.addresses)
    return [address for address in found if ":" not in address]


def _may_get_one(entry: Interface) -> bool:
    if entry.mode in (STATIC, LINK, UNUSED):
        return False
    return entry.link is not False and not _addresses(entry)


def _read(paths: NodePaths) -> Network:
    around = Around(paths.network, paths.kernel_network, paths.resolver)
    return read_network(paths.sys, around=around)


def _has_device(paths: NodePaths) -> bool:
    try:
        return any(name != "lo" for name in os.listdir(paths.devices))
    except OSError:
        return False
