"""Two folders of a FAT32 file system change places by the write of one sector.

A folder's entry in the root folder says where its content begins. Where both entries lie in one
sector, that sector is written whole or not at all: a power cut leaves one folder in each place. The
layout is that of Microsoft's FAT specification 1.03.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

from product.disk.errors import DiskError

# A file system with less is a FAT16, whatever it says of itself.
FAT32_CLUSTERS = 65525
_ENTRY_BYTES = 32
_DIRECTORY, _LONG_NAME = 0x10, 0x0F
_END, _DELETED = 0x00, 0xE5
# Where an entry keeps the two halves of its first cluster's number.
_HIGH_AT, _LOW_AT = 20, 26
_LAST_CLUSTER = 0x0FFFFFF8
# A root folder of more clusters than that is none that this system made.
_MAX_CLUSTERS = 64


def count_clusters(boot: bytes) -> int:
    """How many clusters the FAT32 has whose first 512 bytes these are.

    Raises DiskError for something else.
    """
    if len(boot) < 512 or boot[510:512] != b"\x55\xaa":
        raise DiskError("the first sector of the FAT has no signature")
    sector, cluster, reserved, tables = struct.unpack_from("<HBHB", boot, 11)
    (sectors,) = struct.unpack_from("<I", boot, 32)
    (length,) = struct.unpack_from("<I", boot, 36)
    if not sector or not cluster or not sectors or not length:
        raise DiskError("the first sector is no FAT32's")
    return int((sectors - reserved - tables * length) // cluster)


class _Entry(NamedTuple):
    """Where a folder's entry lies: byte of its sector in the file system, byte in that sector."""

    sector_at: int
    at: int


def exchange(device: str, first: str, second: str) -> None:
    """Let two folders of the root, by their names of eight characters, change places.

    ``device`` must not be mounted for writing. Raises DiskError where that takes more than one
    sector, and where one is missing; nothing is written then.
    """
    try:
        descriptor = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise DiskError(f"cannot open {device}: {error.strerror}") from None
    try:
        _exchange(descriptor, device, first, second)
    except OSError as error:
        raise DiskError(f"{device} cannot be read or written: {error.strerror}") from None
    finally:
        os.close(descriptor)


def _exchange(descriptor: int, device: str, first: str, second: str) -> None:
    # What lies in the folders is on the disk before they may take each other's place.
    os.fsync(descriptor)
    found = _folders(descriptor, device, sector_bytes := _sector_bytes(descriptor, device))
    for name in (first, second):
        if name not in found:
            raise DiskError(f"{device} has no folder {name}")
    one, other = found[first], found[second]
    if one.sector_at != other.sector_at:
        raise DiskError(
            f"the entries of {first} and {second} on {device} lie in two sectors",
            hint="remove what else lies beside them at the top of the EFI partition",
        )
    sector = bytearray(os.pread(descriptor, sector_bytes, one.sector_at))
    for offset in (_HIGH_AT, _LOW_AT):
        a, b = one.at + offset, other.at + offset
        sector[a : a + 2], sector[b : b + 2] = sector[b : b + 2], sector[a : a + 2]
    if os.pwrite(descriptor, sector, one.sector_at) != sector_bytes:
        raise OSError(28, "the sector was not taken whole")
    os.fsync(descriptor)


def _sector_bytes(descriptor: int, device: str) -> int:
    boot = os.pread(descriptor, 512, 0)
    if len(boot) < 512 or boot[510:] != b"\x55\xaa" or boot[82:87] != b"FAT32":
        raise DiskError(f"{device} has no FAT32 file system")
    return int(struct.unpack_from("<H", boot, 11)[0])


def _folders(descriptor: int, device: str, sector_bytes: int) -> dict[str, _Entry]:
    """The root's folders by their short names."""
    found: dict[str, _Entry] = {}
    for cluster_at, cluster in _root_clusters(descriptor, device, sector_bytes):
        for at in range(0, len(cluster), _ENTRY_BYTES):
            entry = cluster[at : at + _ENTRY_BYTES]
            if entry[0] == _END:
                return found
            if entry[0] == _DELETED or entry[11] == _LONG_NAME or not entry[11] & _DIRECTORY:
                continue
            name = entry[:11].rstrip().decode("ascii", "replace")
            inside = at % sector_bytes
            found[name] = _Entry(cluster_at + at - inside, inside)
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
