"""Folders and files of a FAT32 file system change places by the write of one sector.

An entry in the root folder says where the content of its file or folder begins, and how long a file
is. Where all entries lie in one sector, that sector is written whole or not at all: a power cut
leaves every one in its old place, or every one in its new. The layout is that of Microsoft's FAT
specification 1.03.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from product.disk.errors import DiskError

# A file system with less is a FAT16, whatever it says of itself.
FAT32_CLUSTERS = 65525
_ENTRY_BYTES = 32
_DIRECTORY, _VOLUME, _LONG_NAME = 0x10, 0x08, 0x0F
_END, _DELETED = 0x00, 0xE5
# Where an entry keeps what goes with its content: the halves of its first cluster's number, its
# time and date, its size, which is 0 for a folder.
_CONTENT = ((20, 22), (22, 24), (24, 26), (26, 28), (28, 32))
_LAST_CLUSTER = 0x0FFFFFF8
# A root folder of more clusters than that is none that this system made.
_MAX_CLUSTERS = 64


class _Entry(NamedTuple):
    """Where an entry lies: byte of its sector in the file system, byte in that sector."""

    sector_at: int
    at: int
    is_folder: bool


def count_clusters(boot: bytes) -> int:
    """How many clusters for files the FAT has whose first sector is ``boot``.

    Raises DiskError for what is none.
    """
    sector, per_cluster, reserved, tables, root_entries, small = struct.unpack_from(
        "<HBHBHH", boot, 11
    )
    (table,) = struct.unpack_from("<H", boot, 22)
    large, large_table = struct.unpack_from("<II", boot, 32)
    if not sector or not per_cluster:
        raise DiskError("a FAT's first sector has neither sectors nor clusters")
    root = -(-root_entries * _ENTRY_BYTES // sector)
    data = (small or large) - reserved - tables * (table or large_table) - root
    return int(data // per_cluster)


def exchange(device: str, pairs: Sequence[tuple[str, str]]) -> None:
    """Let the folders or files of each pair, by their names in the root, change places.

    A name is as FAT has it: ``SPARE``, ``START.ELF``. ``device`` must not be mounted for writing.
    Raises DiskError where that takes more than one sector, where one is missing, and where one of
    two is a folder; nothing is written then.
    """
    try:
        descriptor = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise DiskError(f"cannot open {device}: {error.strerror}") from None
    try:
        _exchange(descriptor, device, pairs)
    except OSError as error:
        raise DiskError(f"{device} cannot be read or written: {error.strerror}") from None
    finally:
        os.close(descriptor)


def _exchange(descriptor: int, device: str, pairs: Sequence[tuple[str, str]]) -> None:
    # What lies in the folders is on the disk before they may take each other's place.
    os.fsync(descriptor)
    found = _entries(descriptor, device, sector_bytes := _sector_bytes(descriptor, device))
    for name in (name for pair in pairs for name in pair):
        if name not in found:
            raise DiskError(f"{device} has no {name} at its top")
    places = {found[name].sector_at for pair in pairs for name in pair}
    if len(places) != 1:
        names = " and ".join(name for pair in pairs for name in pair)
        raise DiskError(
            f"the entries of {names} on {device} lie in {len(places)} sectors",
            hint="remove what else lies beside them at the top of the EFI partition",
        )
    sector_at = places.pop()
    sector = bytearray(os.pread(descriptor, sector_bytes, sector_at))
    for first, second in pairs:
        one, other = found[first], found[second]
        if one.is_folder != other.is_folder:
            raise DiskError(
                f"one of {first} and {second} on {device} is a folder, the other a file"
            )
        for begin, end in _CONTENT:
            a, b = slice(one.at + begin, one.at + end), slice(other.at + begin, other.at + end)
            sector[a], sector[b] = sector[b], sector[a]
    if os.pwrite(descriptor, sector, sector_at) != sector_bytes:
        raise OSError(28, "the sector was not taken whole")
    os.fsync(descriptor)


def _sector_bytes(descriptor: int, device: str) -> int:
    boot = os.pread(descriptor, 512, 0)
    if len(boot) < 512 or boot[510:] != b"\x55\xaa" or boot[82:87] != b"FAT32":
        raise DiskError(f"{device} has no FAT32 file system")
    return int(struct.unpack_from("<H", boot, 11)[0])


def _entries(descriptor: int, device: str, sector_bytes: int) -> dict[str, _Entry]:
    """The root's folders and files by their short names."""
    found: dict[str, _Entry] = {}
    for cluster_at, cluster in _root_clusters(descriptor, device, sector_bytes):
        for at in range(0, len(cluster), _ENTRY_BYTES):
            entry = cluster[at : at + _ENTRY_BYTES]
            if entry[0] == _END:
                return found
            if entry[0] == _DELETED or entry[11] == _LONG_NAME or entry[11] & _VOLUME:
                continue
            stem, extension = (
                part.decode("ascii", "replace").rstrip() for part in (entry[:8], entry[8:11])
            )
            inside = at % sector_bytes
            found[f"{stem}.{extension}" if extension else stem] = _Entry(
                cluster_at + at - inside, inside, bool(entry[11] & _DIRECTORY)
            )
    return found


def _root_clusters(descriptor: int, device: str, sector_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Where each cluster of the root begins, and its bytes."""
    boot = os.pread(descriptor, 512, 0)
    per_cluster, reserved, tables = struct.unpack_from("<BHB", boot, 13)
    (table_sectors,) = struct.unpack_from("<I", boot, 36)
    (cluster,) = struct.unpack_from("<I", boot, 44)
    data_at = (reserved + tables * table_sectors) * sector_bytes
    size = per_cluster * sector_bytes
    for _ in range(_MAX_CLUSTERS):
        if cluster < 2:
            break
        at = data_at + (cluster - 2) * size
        yield at, os.pread(descriptor, size, at)
        entry = os.pread(descriptor, 4, reserved * sector_bytes + cluster * 4)
        cluster = struct.unpack("<I", entry)[0] & 0x0FFFFFFF
        if cluster >= _LAST_CLUSTER:
            return
    raise DiskError(f"the root folder of {device} has no end")
