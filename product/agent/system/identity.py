"""Which node this is among many: the same at every boot, another one on every machine."""

from __future__ import annotations

import hashlib
import os

from product.agent.system.paths import Paths

_MAX = 256


def node_identity(paths: Paths) -> str:
    """64 hex digits of the machine's serial number, its network cards and its name.

    It follows from the machine alone, so nothing has to be kept. Where a card or the name changes,
    the node is another one; nothing depends on that but its place among the nodes.
    """
    parts = [
        _read(f"{paths.sys}/class/dmi/id/product_uuid"),
        _read(f"{paths.sys}/firmware/devicetree/base/serial-number"),
        _read(paths.hostname),
        *_addresses(f"{paths.sys}/class/net"),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _addresses(folder: str) -> list[str]:
    """The MAC addresses of cards; bridges and what containers bring are none."""
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    cards = (name for name in names if os.path.exists(f"{folder}/{name}/device"))
    return sorted(_read(f"{folder}/{name}/address") for name in cards)


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(_MAX).decode("latin-1").strip("\0\n ")
    except OSError:
        return ""
