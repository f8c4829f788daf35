"""The note beside the certificates that lets a boot see cheaply that nothing is to be done.

``pki/index.json``, schema 1: ``node`` and ``address``; ``files``, SHA-256 of each by name;
``valid_from``, the latest start of a certificate, and ``renew_after`` by
certificate, both seconds since 1970; ``leaves``, digest of what each certificate
says. It is written last, so that whatever it lists was complete. A damaged one costs a closer
look, nothing else; a copy of it keeps the node's name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import NamedTuple

from product.agent.system.files import read_bounded
from product.node.pki import Identity, Leaf

NAME = "index.json"
SCHEMA = 1
MAX_BYTES = 64 * 1024
MAX_FILE_BYTES = 64 * 1024


class Index(NamedTuple):
    """The note's content."""

    node: str
    address: str
    files: dict[str, str]
    valid_from: float
    renew_after: dict[str, float]
    leaves: dict[str, str]

    def to_bytes(self) -> bytes:
        """JSON, keys sorted."""
        document = {"schema": SCHEMA, **self._asdict()}
        return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()

    def complaints(
        self, folder: str, identity: Identity, leaves: Iterable[Leaf], names: Iterable[str],
        now: float,
    ) -> list[str]:  # fmt: skip
        """Why the certificates in ``folder`` need a closer look; empty: they do not."""
        found = []
        # What else its API server is called is a matter of that certificate alone.
        if (identity.node, identity.address) != (self.node, self.address):
            found.append(f"made for {self.node} at {self.address}")
        for leaf in leaves:
            if self.leaves.get(leaf.name) != leaf.digest:
                found.append(f"{leaf.name} is to say something else")
        if now < self.valid_from:
            found.append("not valid yet by this node's clock")
        for name, limit in self.renew_after.items():
            if now >= limit:
                found.append(f"{name} is to be renewed")
        for name in names:
            if name not in self.files or digest_of(f"{folder}/{name}") != self.files[name]:
                found.append(f"{name} is missing or changed")
        return found


def read_index(folder: str) -> Index | None:
    """The note in ``folder``; None where there is none that can be used."""
    try:
        document = json.loads(read_bounded(f"{folder}/{NAME}", MAX_BYTES).decode())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        return None
    node, address = document.get("node"), document.get("address")
    files, renew = document.get("files"), document.get("renew_after")
    leaves, start = document.get("leaves"), document.get("valid_from")
    if not isinstance(node, str) or not isinstance(address, str) or not node:
        return None
    if not _maps_to(files, str) or not _maps_to(leaves, str) or not _maps_to(renew, (int, float)):
        return None
    if not isinstance(start, (int, float)):
        return None
    assert isinstance(files, dict)
    assert isinstance(leaves, dict)
    assert isinstance(renew, dict)
    return Index(node, address, files, start, renew, leaves)


def digest_of(path: str) -> str | None:
    """SHA-256 of a small file in hex; None where it cannot be read."""
    try:
        return hashlib.sha256(read_bounded(path, MAX_FILE_BYTES)).hexdigest()
    except (OSError, ValueError):
        return None


def _maps_to(value: object, kind: type | tuple[type, ...]) -> bool:
    return isinstance(value, dict) and all(
        isinstance(v, kind) and not isinstance(v, bool) for v in value.values()
    )
