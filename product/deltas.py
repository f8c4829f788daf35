"""Which deltas a publisher offers with a release: a signed field beside the version.

In the signed ``custom`` object of a release; the key may be absent::

    "deltas": [{"format": "kubesolo-delta-1", "name": "root.squashfs", "from": "<sha256>",
                "to": "<sha256>", "size": 144175, "sha256": "<sha256>"}]

Each is a file ``artifacts/<sha256>`` of the repository. It makes the artifact ``to`` of the release
of the artifact ``from`` of another one, both called ``name``. Formats that a reader does not know
are passed over, and so are keys that it does not know. The format: product.agent.slots.delta.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from product.errors import KubesoloError

FORMAT = "kubesolo-delta-1"
FIELD = "deltas"
# Some releases of some artifacts: no publisher offers more.
MAX_DELTAS = 64
_DIGEST = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class DeltasError(KubesoloError):
    """The signed field has a value that it cannot have."""


class Delta(NamedTuple):
    """One delta in FORMAT; ``source`` and ``target`` are the SHA-256 of the two artifacts."""

    name: str
    source: str
    target: str
    size: int
    sha256: str

    def to_custom(self) -> dict[str, object]:
        """The entry of the signed list."""
        return {
            "format": FORMAT,
            "name": self.name,
            "from": self.source,
            "to": self.target,
            "size": self.size,
            "sha256": self.sha256,
        }


def parse_deltas(custom: Mapping[str, object]) -> tuple[Delta, ...]:
    """The deltas of a known format in ``custom``; raises DeltasError for what cannot be one."""
    entries = custom.get(FIELD, [])
    if not isinstance(entries, list):
        raise DeltasError(f"the signed field {FIELD} is {entries!r:.80}, not a list")
    if len(entries) > MAX_DELTAS:
        raise DeltasError(f"the signed field {FIELD} lists {len(entries)}, more than {MAX_DELTAS}")
    found = []
    for number, entry in enumerate(entries):
        where = f"the signed field {FIELD}, entry {number}"
        if not isinstance(entry, dict) or not isinstance(entry.get("format"), str):
            raise DeltasError(f"{where} is {entry!r:.80}, not an object with a format")
        if entry["format"] == FORMAT:
            found.append(_delta(entry, where))
    return tuple(found)


def _delta(entry: dict[str, object], where: str) -> Delta:
    texts = {"name": _NAME, "from": _DIGEST, "to": _DIGEST, "sha256": _DIGEST}
    values = []
    for key, pattern in texts.items():
        value = entry.get(key)
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise DeltasError(f"{where} has {key} {value!r:.80}")
        values.append(value)
    size = entry.get("size")
    if type(size) is not int or not 0 < size < 1 << 48:
        raise DeltasError(f"{where} has size {size!r:.80}")
    name, source, target, sha256 = values
    return Delta(name, source, target, size, sha256)
