"""What lies on a disk, in words: partitions, a file system, an earlier system of this kind."""

from __future__ import annotations

import os
from contextlib import suppress

from product.disk.errors import DiskError
from product.disk.find import ESP_NAME
from product.disk.foreign import read_foreign
from product.disk.gpt import Table, read_table
from product.disk.labels import read_volume
from product.disk.prepare import open_disk

# Whatever keeps something on a disk has written there: tables, super blocks, their copies.
_EDGE = 1 << 20
# Where each begins, and how: of those that a disk is given to as a whole. From their sources.
_SIGNATURES = (
    (0, b"LUKS\xba\xbe", "LUKS encryption"),
    (0, b"XFSB", "xfs"),
    (512, b"LABELONE", "an LVM volume"),
    (4086, b"SWAPSPACE2", "swap space"),
    (4096, b"\xfc\x4e\x2b\xa9", "a RAID member"),
    (65600, b"_BHRfS_M", "btrfs"),
)
# The MBR's four entries, of 16 bytes each; an entry's fifth byte is its type.
_MBR_AT, _MBR_ENTRY, _MBR_END = 446, 16, b"\x55\xaa"


def what_holds(path: str) -> str:
    """What there is; "" where both ends of the disk are zeros."""
    with suppress(DiskError, OSError), open_disk(path, writable=False) as disk:
        return _of_table(read_table(disk))
    if volume := read_volume(path) or read_foreign(path):
        return f"a file system: {volume.kind} {', '.join(volume.labels)}".rstrip()
    try:
        with open(path, "rb") as stream:
            head = stream.read(_EDGE)
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - _EDGE))
            tail = stream.read(_EDGE)
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    for at, magic, name in _SIGNATURES:
        if head[at : at + len(magic)] == magic:
            return name
    if count := _mbr_partitions(head):
        return f"{count} partition{'s' if count > 1 else ''} of an MBR"
    return "something unknown" if head.strip(b"\0") or tail.strip(b"\0") else ""


def _of_table(table: Table) -> str:
    names = [part.name or "unnamed" for part in table.partitions.values()]
    if ESP_NAME in names:
        return f"an earlier KubeSolo OS: partitions {', '.join(names)}"
    return f"partitions {', '.join(names)}" if names else "an empty partition table"


def _mbr_partitions(head: bytes) -> int:
    if head[510:512] != _MBR_END:
        return 0
    kinds = (head[_MBR_AT + number * _MBR_ENTRY + 4] for number in range(4))
    return sum(kind != 0 for kind in kinds)
