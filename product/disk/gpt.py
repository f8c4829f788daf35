"""The GUID partition table: read as Linux does, written so that any power cut leaves a good copy.

Layout and checks are those of the UEFI specification 2.10, section 5.3. The primary copy lies at
the disk's front, the backup at its end; each is a header and an array of entries that the header
sums. Linux takes the backup for a broken primary where its command line says ``gpt``; firmware
always does.
"""

from __future__ import annotations

import os
import struct
import uuid
import zlib
from typing import NamedTuple

from product.disk.errors import TableError

SIGNATURE = b"EFI PART"
ENTRY_BYTES, ENTRY_COUNT = 128, 128
ARRAY_BYTES = ENTRY_BYTES * ENTRY_COUNT
# Discoverable partitions' "grow the file system": the partition still has to be made for its disk.
UNMADE = 1 << 59
_HEADER = struct.Struct("<8sIIIIQQQQ16sQIII")
_ENTRY = struct.Struct("<16s16sQQQ72s")
# The MBR's four entries; where an entry keeps its type, and its length in sectors.
MBR_ENTRIES_AT, MBR_ENTRY_BYTES, _MBR_TYPE_AT, _MBR_LENGTH_AT = 446, 16, 4, 12
PROTECTIVE = 0xEE


class Partition(NamedTuple):
    """One entry; ``first`` and ``last`` are sectors, both part of it."""

    type: uuid.UUID
    guid: uuid.UUID
    first: int
    last: int
    attributes: int
    name: str


class Table(NamedTuple):
    """A whole table; ``partitions`` are those in use by number, from 1 on.

    ``first_usable`` keeps the gap before the first partition free, where GRUB's BIOS core lies.
    """

    guid: uuid.UUID
    first_usable: int
    partitions: dict[int, Partition]


class Disk:
    """A disk or its image, open for reading and writing; a sector is ``sector`` bytes."""

    def __init__(self, descriptor: int, name: str, sector: int = 512) -> None:
        self._descriptor = descriptor
        self.name = name
        self.sector = sector
        self.sectors = os.lseek(descriptor, 0, os.SEEK_END) // sector

    @property
    def array_sectors(self) -> int:
        """How many sectors the array of entries takes."""
        return -(-ARRAY_BYTES // self.sector)

    @property
    def last_usable(self) -> int:
        """The last sector that a partition may have: the backup lies behind it."""
        return self.sectors - self.array_sectors - 2

    def read(self, sector: int, count: int = 1) -> bytes:
        """``count`` sectors. Raises OSError, TableError past the disk's end."""
        wanted = count * self.sector
        data = os.pread(self._descriptor, wanted, sector * self.sector)
        if len(data) != wanted:
            raise TableError(f"{self.name} ends before sector {sector + count}")
        return data

    def read_back(self, sector: int, count: int) -> bytes:
        """The same from the device, not from what is cached of it."""
        offset, length = sector * self.sector, count * self.sector
        os.posix_fadvise(self._descriptor, offset, length, os.POSIX_FADV_DONTNEED)
        return self.read(sector, count)

    def write(self, sector: int, data: bytes) -> None:
        """Whole sectors, on the disk when this returns. Raises OSError."""
        done = os.pwrite(self._descriptor, data, sector * self.sector)
        if done != len(data):
            raise OSError(28, f"only {done} of {len(data)} bytes were taken", self.name)
        os.fsync(self._descriptor)


def read_table(disk: Disk) -> Table:
    """The primary copy, or the backup where that is broken. Raises OSError, TableError."""
    problems = []
    for place, at in (("primary", 1), ("backup", disk.sectors - 1)):
        try:
            return _read_copy(disk, at)
        except TableError as error:
            problems.append(f"the {place} copy {error.message}")
    raise TableError(
        f"{disk.name} has no partition table: {'; '.join(problems)}",
        hint="write the image to the disk again",
    )


def is_whole(disk: Disk) -> bool:
    """Whether both copies hold, say the same, and lie where they belong. Raises OSError."""
    try:
        return _read_copy(disk, 1) == _read_copy(disk, disk.sectors - 1)
    except TableError:
        return False


def _read_copy(disk: Disk, at: int) -> Table:
    raw = disk.read(at)
    fields = _HEADER.unpack_from(raw)
    signature, _, size, checksum, _, own = fields[:6]
    first_usable, _, guid, array_at, count, entry_bytes, array_sum = fields[7:]
    if signature != SIGNATURE:
        raise TableError("has no signature")
    if not _HEADER.size <= size <= disk.sector or own != at:
        raise TableError(f"says that it has {size} bytes and lies in sector {own}")
    if zlib.crc32(raw[:16] + bytes(4) + raw[20:size]) != checksum:
        raise TableError("has a header whose checksum does not fit")
    if (count, entry_bytes) != (ENTRY_COUNT, ENTRY_BYTES):
        raise TableError(f"has {count} entries of {entry_bytes} bytes, not 128 of 128")
    array = disk.read(array_at, disk.array_sectors)[:ARRAY_BYTES]
    if zlib.crc32(array) != array_sum:
        raise TableError("has entries whose checksum does not fit")
    partitions = {}
    for number in range(1, count + 1):
        kind, own_guid, first, last, attributes, raw_name = _ENTRY.unpack_from(
            array, (number - 1) * ENTRY_BYTES
        )
        if kind != bytes(16):
            partitions[number] = Partition(
                uuid.UUID(bytes_le=kind),
                uuid.UUID(bytes_le=own_guid),
                first,
                last,
                attributes,
                raw_name.decode("utf-16-le", "replace").partition("\0")[0],
            )
    return Table(uuid.UUID(bytes_le=guid), first_usable, partitions)


def write_table(disk: Disk, table: Table) -> None:
    """Replace both copies, the one that is not believed first. Raises OSError.

    The backup goes to the disk's end, wherever it was. Of the primary the entries come first: GRUB
    reads them unchecked, and Linux meanwhile takes the backup, which says the same.
    """
    array = bytearray(ARRAY_BYTES)
    for number, part in table.partitions.items():
        _ENTRY.pack_into(
            array, (number - 1) * ENTRY_BYTES, part.type.bytes_le, part.guid.bytes_le, part.first,
            part.last, part.attributes, part.name.encode("utf-16-le"),
        )  # fmt: skip
    entries = bytes(array).ljust(disk.array_sectors * disk.sector, b"\0")
    end = disk.sectors - 1
    backup_array = end - disk.array_sectors
    disk.write(backup_array, entries)
    disk.write(end, _header(disk, table, bytes(array), own=end, other=1, array_at=backup_array))
    disk.write(2, entries)
    disk.write(1, _header(disk, table, bytes(array), own=1, other=end, array_at=2))
    _cover(disk)


def _header(
    disk: Disk, table: Table, array: bytes, *, own: int, other: int, array_at: int
) -> bytes:
    def pack(checksum: int) -> bytes:
        return _HEADER.pack(
            SIGNATURE, 0x10000, _HEADER.size, checksum, 0, own, other, table.first_usable,
            disk.last_usable, table.guid.bytes_le, array_at, ENTRY_COUNT, ENTRY_BYTES,
            zlib.crc32(array),
        )  # fmt: skip

    return pack(zlib.crc32(pack(0))).ljust(disk.sector, b"\0")


def _cover(disk: Disk) -> None:
    """Let the protective MBR's entry cover the whole disk; its code stays as it is.

    A hybrid MBR, which has a partition in its first entry, stays as it is: its protective entry
    ends where that partition begins, on a disk of any size.
    """
    sector = bytearray(disk.read(0))
    if sector[MBR_ENTRIES_AT + _MBR_TYPE_AT] not in (0, PROTECTIVE):
        return
    at = MBR_ENTRIES_AT + _MBR_LENGTH_AT
    length = struct.pack("<I", min(disk.sectors - 1, 0xFFFFFFFF))
    if sector[at : at + 4] != length:
        sector[at : at + 4] = length
        disk.write(0, bytes(sector))
