"""The network hardware that there is, as sysfs shows it."""

from __future__ import annotations

import os
from typing import NamedTuple


class Card(NamedTuple):
    """One interface that is hardware; ``number`` is the kernel's, in the order of finding."""

    name: str
    mac: str
    number: int
    master: str | None = None

    def describe(self) -> str:
        """As in ``eth0 (52:54:00:12:34:56)``."""
        return f"{self.name} ({self.mac})"


def read_cards(sys: str = "/sys") -> tuple[Card, ...]:
    """By the kernel's number."""
    folder = f"{sys}/class/net"
    found = []
    for name in _entries(folder):
        path = f"{folder}/{name}"
        if not os.path.exists(f"{path}/device"):
            continue
        # A bond gives its members its own address; the hardware's is remembered by bonding alone.
        mac = _text(f"{path}/bonding_slave/perm_hwaddr") or _text(f"{path}/address")
        master = None
        if os.path.exists(f"{path}/master"):
            master = os.path.basename(os.path.realpath(f"{path}/master"))
        found.append(Card(name, mac.lower(), int(_text(f"{path}/ifindex") or 0), master))
    return tuple(sorted(found, key=lambda card: card.number))


def read_names(sys: str = "/sys") -> frozenset[str]:
    """Every interface, hardware or not."""
    return frozenset(_entries(f"{sys}/class/net"))


def index_of(name: str, sys: str = "/sys") -> int:
    """The kernel's number of an interface; 0 where there is none."""
    return int(_text(f"{sys}/class/net/{name}/ifindex") or 0)


def _entries(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _text(path: str) -> str:
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return ""
