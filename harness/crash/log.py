"""The writes of a machine's disk, as QEMU's ``blklogwrites`` records them.

The format is that of Linux's dm-log-writes (admin-guide/device-mapper/log-writes.rst): a sector
with the magic number, the version, how many entries there are and how long a sector is; then each
entry, one sector of its own followed by what was written. All numbers are little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError

_SUPER = struct.Struct("<QQQI")
_ENTRY = struct.Struct("<QQQQ")
_MAGIC, _VERSION = 0x6A736677736872, 1
_FLUSH, _FUA, _DISCARD = 1, 2, 4


@dataclass(frozen=True, slots=True)
class Write:
    """One request: what goes where (in bytes), or a flush alone where ``data`` is empty.

    What came before a ``flush`` is on the disk when it ends.
    """

    offset: int
    data: bytes
    flush: bool


def read_log(path: Path, begin: int = 0, end: int | None = None) -> Iterator[Write]:
    """The requests in their order; discards are left out. Raises HarnessError for another file.

    Those alone whose entry lies from byte ``begin`` of the file on and before ``end``.
    """
    with path.open("rb") as stream:
        head = stream.read(_SUPER.size)
        if len(head) < _SUPER.size:
            raise HarnessError(f"{path} is no log of writes: it has {len(head)} bytes")
        magic, version, entries, sector = _SUPER.unpack(head)
        if (magic, version) != (_MAGIC, _VERSION):
            raise HarnessError(f"{path} is no log of writes: it begins with {head[:16]!r}")
        at = sector
        for number in range(entries):
            stream.seek(at)
            raw = stream.read(_ENTRY.size)
            if len(raw) < _ENTRY.size:
                raise HarnessError(f"{path} ends before entry {number} of {entries}")
            start, count, flags, _ = _ENTRY.unpack(raw)
            entry, at = at, at + sector
            data = b""
            wanted = begin <= entry and (end is None or entry < end)
            if not flags & _DISCARD and count:
                if wanted:
                    stream.seek(at)
                    data = stream.read(count * sector)
                    if len(data) < count * sector:
                        raise HarnessError(f"{path} ends within entry {number} of {entries}")
                at += count * sector
            if not wanted:
                continue
            if data or flags & (_FLUSH | _FUA):
                yield Write(start * sector, data, bool(flags & (_FLUSH | _FUA)))
