"""The label and kind of a file system that a seed may be on: FAT of any size, and ISO 9660.

FAT's label stands in its boot sector and, where a tool bothered, as an entry of the root directory;
some tools set only one of them. Offsets are those of Microsoft's FAT specification and of ECMA-119.
"""

from __future__ import annotations

import os
from typing import NamedTuple

# Of a stick with a release repository.
UPDATE_LABEL = "KSOLOUPD"
_ISO_DESCRIPTOR = 16 * 2048
_ISO_LABEL = slice(40, 72)
_ENTRY = 32
_VOLUME, _LONG_NAME, _NAME_BYTES = 0x08, 0x0F, 11
# A label that says that there is none.
_UNNAMED = b"NO NAME"
# A root directory has its label at its front; only a part of a large one is looked at.
_ROOT_BYTES = 16 * 1024


class Volume(NamedTuple):
    """``kind`` as mount(8) names it, and every label that the file system carries."""

    kind: str
    labels: tuple[str, ...]


def read_volume(path: str) -> Volume | None:
    """What lies on a device or in a file; None for another file system, or what cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return _fat(descriptor) or _iso(descriptor)
    except OSError:
        return None  # no medium, or one that fails
    finally:
        os.close(descriptor)


def _iso(descriptor: int) -> Volume | None:
    block = os.pread(descriptor, 2048, _ISO_DESCRIPTOR)
    if block[:6] != b"\x01CD001":
        return None
    return Volume("iso9660", _texts([block[_ISO_LABEL]]))


def _fat(descriptor: int) -> Volume | None:
    boot = os.pread(descriptor, 512, 0)
    if len(boot) < 512 or boot[510:] != b"\x55\xaa":
        return None
    sector = int.from_bytes(boot[11:13], "little")
    per_cluster, reserved, tables = boot[13], int.from_bytes(boot[14:16], "little"), boot[16]
    # A partition table has the same last two bytes; only a FAT has such a geometry.
    if sector not in (512, 1024, 2048, 4096) or not per_cluster or per_cluster & (per_cluster - 1):
        return None
    if not reserved or tables not in (1, 2):
        return None
    small = int.from_bytes(boot[22:24], "little")
    length = small or int.from_bytes(boot[36:40], "little")
    root = (reserved + tables * length) * sector
    if small:
        label, size = boot[43:54], int.from_bytes(boot[17:19], "little") * _ENTRY
    else:
        first = int.from_bytes(boot[44:48], "little")
        root += (first - 2) * per_cluster * sector
        label, size = boot[71:82], per_cluster * sector
    entries = os.pread(descriptor, min(size, _ROOT_BYTES), root)
    return Volume("vfat", _texts([*_volume_entries(entries), label]))


def _volume_entries(entries: bytes) -> list[bytes]:
    found = []
    for at in range(0, len(entries) - _ENTRY + 1, _ENTRY):
        if entries[at] == 0:
            break
        attributes = entries[at + _NAME_BYTES]
        if entries[at] != 0xE5 and attributes & _VOLUME and attributes != _LONG_NAME:
            found.append(entries[at : at + _NAME_BYTES])
    return found


def _texts(labels: list[bytes]) -> tuple[str, ...]:
    texts = [raw.rstrip(b" \0").decode("latin-1") for raw in labels if raw.rstrip() != _UNNAMED]
    return tuple(dict.fromkeys(text for text in texts if text))
