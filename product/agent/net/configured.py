"""What the node's services made of the network's configuration, and which way leads out."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import NamedTuple

CARD = "card"
# Of product.netconf.plan.
DHCP, STATIC, LINK = "dhcp", "static", "link"
# A card that the configuration does not name.
UNUSED = "unused"
_UP, _REJECT = 0x1, 0x200
MAX_BYTES = 256 * 1024


class DefaultRoute(NamedTuple):
    """One of the kernel's; the least ``metric`` of a family is taken."""

    interface: str
    gateway: str
    metric: int

    def describe(self) -> str:
        """As in ``eth0 via 10.0.2.2 (metric 1002)``."""
        return f"{self.interface} via {self.gateway} (metric {self.metric})"


class Setup(NamedTuple):
    """What the service ``network`` recorded; ``modes`` None: nothing is configured."""

    modes: Mapping[str, str] | None = None
    kinds: Mapping[str, str] = {}
    problems: tuple[str, ...] = ()

    def mode(self, name: str) -> str:
        """How the interface gets its addresses."""
        return DHCP if self.modes is None else self.modes.get(name, UNUSED)


def read_setup(folder: str) -> Setup:
    """``state.json`` (see product.netconf.effect), and what the DHCP client could not set."""
    complaints = tuple(_complaints(f"{folder}/problems"))
    try:
        document = json.loads(_text(f"{folder}/state.json"))
        interfaces = document["interfaces"].items()
        kinds = {name: one["kind"] for name, one in interfaces if one["kind"] != "ethernet"}
        modes = {name: str(one["mode"]) for name, one in interfaces}
        problems = tuple(map(str, document["problems"]))
    except (ValueError, TypeError, KeyError, AttributeError):
        return Setup(problems=complaints)
    return Setup(modes, kinds, problems + complaints)


def default_routes(folder: str) -> tuple[DefaultRoute, ...] | None:
    """Those of /proc/net, IPv4 before IPv6; None where it cannot be read."""
    if not os.path.exists(f"{folder}/route"):
        return None
    four = sorted(_routes4(_text(f"{folder}/route")), key=lambda route: route.metric)
    six = sorted(_routes6(_text(f"{folder}/ipv6_route")), key=lambda route: route.metric)
    return (*four, *six)


def name_servers(path: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Servers and search domains of a resolv.conf."""
    servers: list[str] = []
    search: list[str] = []
    for words in map(str.split, _text(path).splitlines()):
        if words[:1] == ["nameserver"]:
            servers += words[1:2]
        elif words[:1] == ["search"]:
            search += words[1:]
    return tuple(servers), tuple(search)


def _routes4(text: str) -> Iterator[DefaultRoute]:
    for line in text.splitlines()[1:]:
        fields = line.split()
        # Interface, network, gateway, flags, two counters, metric, mask.
        if len(fields) < 8 or fields[1] != "00000000" or fields[7] != "00000000":
            continue
        try:
            flags, metric = int(fields[3], 16), int(fields[6])
            gateway = ".".join(str(part) for part in reversed(bytes.fromhex(fields[2])))
        except ValueError:
            continue
        if flags & _UP and not flags & _REJECT:
            yield DefaultRoute(fields[0], gateway, metric)


def _routes6(text: str) -> Iterator[DefaultRoute]:
    from _socket import AF_INET6, inet_ntop

    for line in text.splitlines():
        fields = line.split()
        # Network and its prefix, source and its prefix, gateway, metric, two counters, flags, name.
        if len(fields) < 10 or fields[0].strip("0") or fields[1] != "00":
            continue
        try:
            metric, flags = int(fields[5], 16), int(fields[8], 16)
            gateway = inet_ntop(AF_INET6, bytes.fromhex(fields[4]))
        except (ValueError, OSError):
            continue
        if flags & _UP and not flags & _REJECT:
            yield DefaultRoute(fields[9], gateway, metric)


def _complaints(folder: str) -> Iterator[str]:
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return
    for name in names:
        if not name.endswith(".new"):
            yield from _text(f"{folder}/{name}").splitlines()


def _text(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(MAX_BYTES).decode(errors="replace")
    except OSError:
        return ""
