"""A disk's first boot, and a disk that has grown.

The image's table marks the data partition as unmade. Its file system is made for the disk that the
first boot finds, on a partition that only the kernel knows in that size. Then the table is written
once: with the partition's size, without the mark, and with identifiers of this disk's own. A power
cut before that leaves a first boot; one after it a disk that is whole.
"""

from __future__ import annotations

import fcntl
import os
import struct
import uuid
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from product.disk.errors import DiskError
from product.disk.gpt import UNMADE, Disk, Partition, Table, is_whole, read_table, write_table

DATA_NUMBER, DATA_NAME = 4, "KSOLODATA"
# A partition ends at a multiple of this, as it begins at one.
_ALIGNMENT = 1 << 20
# From linux/fs.h and linux/blkpg.h.
_BLKSSZGET, _BLKRRPART, _BLKPG, _BLKPG_RESIZE_PARTITION = 0x1268, 0x125F, 0x1269, 3


class Outcome(NamedTuple):
    """What was done: ``first`` boot or not, whether the partition ``grew``, its size in bytes."""

    first: bool
    grew: bool
    data_bytes: int


@contextmanager
def open_disk(path: str, *, writable: bool = True) -> Iterator[Disk]:
    """The block device, or an image's file. Raises DiskError."""
    try:
        descriptor = os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)
    except OSError as error:
        raise DiskError(f"cannot open the disk {path}: {error.strerror}") from None
    try:
        yield Disk(descriptor, path, _sector_bytes(descriptor))
    except OSError as error:
        raise DiskError(f"the disk {path} cannot be read or written: {error.strerror}") from None
    finally:
        os.close(descriptor)


def _sector_bytes(descriptor: int) -> int:
    try:
        answer = fcntl.ioctl(descriptor, _BLKSSZGET, bytes(4))
    except OSError:
        return 512  # an image in a file
    return int(struct.unpack("i", answer)[0])


def prepare(
    disk: Disk, make: Callable[[int], None], resize: Callable[[Partition], None]
) -> Outcome:
    """Make the data file system if there is none yet, or let its partition take the disk's rest.

    ``resize`` tells the kernel of the partition's new end, before ``make`` is called with the
    partition's size in bytes. Raises DiskError, OSError; the table then is as it was.
    """
    table = read_table(disk)
    data = table.partitions.get(DATA_NUMBER)
    if data is None or data.name != DATA_NAME:
        raise DiskError(
            f"partition {DATA_NUMBER} of {disk.name} is not {DATA_NAME}",
            hint="the disk was not written with this system's image, or repartitioned since",
        )
    first = bool(data.attributes & UNMADE)
    after = max((p.first for p in table.partitions.values() if p.first > data.last), default=None)
    last = data.last if after is not None else _last_sector(disk, data)
    grown = data._replace(last=last, attributes=data.attributes & ~UNMADE)
    size = (grown.last - grown.first + 1) * disk.sector
    if not first and last == data.last and is_whole(disk):
        return Outcome(False, False, size)
    if last != data.last:
        resize(grown)
    if first:
        make(size)
        table = _own_identity(table)
        grown = grown._replace(guid=table.partitions[DATA_NUMBER].guid)
    write_table(disk, table._replace(partitions={**table.partitions, DATA_NUMBER: grown}))
    return Outcome(first, last != data.last, size)


def _last_sector(disk: Disk, data: Partition) -> int:
    per = _ALIGNMENT // disk.sector
    last = (disk.last_usable + 1) // per * per - 1
    # A disk that is smaller than what the table says is nothing to shrink a file system for.
    return max(last, data.last)


def _own_identity(table: Table) -> Table:
    """The same table with new identifiers: every copy of an image begins with the same ones."""
    partitions = {n: part._replace(guid=uuid.uuid4()) for n, part in table.partitions.items()}
    return table._replace(guid=uuid.uuid4(), partitions=partitions)


def resize_in_kernel(disk_path: str, sector: int) -> Callable[[Partition], None]:
    """Tell the kernel of a partition's end (BLKPG), which reads no table for it."""

    def resize(part: Partition) -> None:
        length = (part.last - part.first + 1) * sector
        payload = struct.pack("qqi64s64s", part.first * sector, length, DATA_NUMBER, b"", b"")
        held = array("B", payload)
        request = struct.pack(
            "iiiP", _BLKPG_RESIZE_PARTITION, 0, len(payload), held.buffer_info()[0]
        )
        descriptor = os.open(disk_path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.ioctl(descriptor, _BLKPG, request)
        finally:
            os.close(descriptor)

    return resize


def reread(disk_path: str) -> bool:
    """Let the kernel read the table again; False where a partition is in use: it keeps its own."""
    descriptor = os.open(disk_path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(descriptor, _BLKRRPART)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
