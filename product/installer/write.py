"""Writing the disk image, so that a disk whose writing was cut off starts nothing, or all of it.

The old table goes first: its copy at the disk's end, then the first MiB. All else is written, read
back from the disk and configured before what makes the disk start: the rest of the first MiB with
BIOS's code, the table's copy at the image's end, the block with the table, and in it the MBR last.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import NamedTuple, Protocol

from product.disk.block import BLOCK, flush, read_uncached, write_all, zero
from product.disk.errors import DiskError
from product.disk.find import ESP_NAME
from product.disk.gpt import Disk, Partition, read_table
from product.disk.pieces import Document, OpenFile, Piece, content

HEAD = 1 << 20
SECTOR = 512
# The table's copy, 33 sectors, in whole blocks.
TAIL = 5 * BLOCK
_CHUNK = 4 << 20
# Held in memory, each.
_MAX_TAIL = 1 << 20

# What is done ("write", "verify"), bytes done, bytes in all.
Progress = Callable[[str, int, int], None]
# Called with the EFI partition when all but what makes the disk start is on it.
Configure = Callable[[Partition], None]


class Target(Protocol):
    """What is installed to; each method raises OSError."""

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    def write(self, data: bytes, at: int) -> None:
        """Write all of it."""
        ...

    def zero(self, at: int, length: int) -> None:
        """Make a range zeros."""
        ...

    def flush(self) -> None:
        """All that was written is on the disk when this returns, and nothing of it is cached."""
        ...

    def read(self, at: int, length: int) -> bytes:
        """What the disk has."""
        ...

    def close(self) -> None:
        """Give it back."""
        ...


class BlockDevice:
    """A disk in /dev."""

    def __init__(self, path: str) -> None:
        """Raises OSError, also where something uses the disk."""
        flags = os.O_RDWR | os.O_CLOEXEC
        # Whoever has it mounted keeps it to himself. Not held: its EFI partition is mounted later.
        os.close(os.open(path, flags | os.O_EXCL))
        self._descriptor = os.open(path, flags)
        try:
            self._direct = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT)
        except OSError:
            os.close(self._descriptor)
            raise
        self.size = os.lseek(self._descriptor, 0, os.SEEK_END)

    def close(self) -> None:
        """See Target."""
        os.close(self._descriptor)
        os.close(self._direct)

    def write(self, data: bytes, at: int) -> None:
        """See Target."""
        write_all(self._descriptor, data, at)

    def zero(self, at: int, length: int) -> None:
        """See Target."""
        zero(self._descriptor, at, length)

    def flush(self) -> None:
        """See Target."""
        flush(self._descriptor, is_device=True)

    def read(self, at: int, length: int) -> bytes:
        """See Target; past the page cache."""
        return read_uncached(self._direct, at, length)


class _Image(NamedTuple):
    """The parts of an image: ``head`` is its first MiB, ``tail`` and ``rest`` lie behind it."""

    head: bytes
    tail: list[tuple[int, bytes]]
    rest: list[Piece]
    esp: Partition


def install(
    document: Document,
    open_file: OpenFile,
    disk: Target,
    configure: Configure,
    progress: Progress = lambda *_: None,
) -> None:
    """Write the image. Raises DiskError before anything is written where the medium has none.

    Raises DiskError, OSError later, too; the disk then starts nothing.
    """
    image = _take_apart(document, open_file)
    _remove_old(disk)
    _write(document, image, open_file, disk, progress)
    disk.flush()
    _verify(image.rest, disk, progress)
    configure(image.esp)
    disk.flush()
    _put(disk, image.head[BLOCK:], BLOCK, "what lies behind the partition table")
    for at, data in image.tail:
        _put(disk, data, at, "the copy of the partition table")
    # Without the MBR no firmware takes the table. It is one sector, which is written or is not.
    first = image.head[:BLOCK]
    _put(disk, bytes(SECTOR) + first[SECTOR:], 0, "the partition table")
    _put(disk, first, 0, "the MBR")


def _take_apart(document: Document, open_file: OpenFile) -> _Image:
    head, tail, rest = bytearray(HEAD), [], []
    for piece in document.pieces:
        if piece.at < HEAD < piece.end:
            raise DiskError(f"a piece of the image lies across its byte {HEAD}")
        if piece.at < HEAD:
            head[piece.at : piece.end] = b"".join(content(piece, open_file))
        elif piece.end > document.size - TAIL:
            if piece.length > _MAX_TAIL:
                raise DiskError(f"the image's last piece has {piece.length} bytes")
            tail.append((piece.at, b"".join(content(piece, open_file))))
        else:
            rest.append(piece)
    return _Image(bytes(head), tail, rest, _esp(head))


def _esp(head: bytearray) -> Partition:
    """The EFI partition by the table in the first MiB. Raises DiskError."""
    descriptor = os.memfd_create("head", os.MFD_CLOEXEC)
    try:
        write_all(descriptor, bytes(head), 0)
        parts = read_table(Disk(descriptor, "the image")).partitions.values()
    finally:
        os.close(descriptor)
    for part in parts:
        if part.name == ESP_NAME:
            return part
    raise DiskError(f"the image has no partition {ESP_NAME}", hint="the medium is damaged")


def _remove_old(disk: Target) -> None:
    """Neither table, nor what tells of other systems. A power cut leaves the old one, or none."""
    end = disk.size // SECTOR * SECTOR
    disk.zero(end - SECTOR, SECTOR)
    disk.flush()
    disk.zero(0, HEAD)
    disk.flush()
    disk.zero(max(HEAD, end - HEAD), end - max(HEAD, end - HEAD))
    disk.flush()


def _write(
    document: Document, image: _Image, open_file: OpenFile, disk: Target, progress: Progress
) -> None:
    total, done, position = sum(piece.length for piece in image.rest), 0, HEAD
    for piece in image.rest:
        disk.zero(position, piece.at - position)
        at = piece.at
        for data in content(piece, open_file):
            # The kernel fills up the last block; what an older system left there must go.
            disk.write(data + bytes(-len(data) % BLOCK), at)
            at += len(data)
            done += len(data)
            progress("write", done, total)
        position = -(-piece.end // BLOCK) * BLOCK
        disk.flush()
    disk.zero(position, document.size - position)


def _verify(rest: list[Piece], disk: Target, progress: Progress) -> None:
    total, done = sum(piece.length for piece in rest), 0
    for piece in rest:
        digest = hashlib.sha256()
        for at in range(piece.at, piece.end, _CHUNK):
            data = disk.read(at, min(_CHUNK, piece.end - at))
            digest.update(data)
            done += len(data)
            progress("verify", done, total)
        if digest.hexdigest() != piece.sha256:
            raise DiskError(
                f"the disk does not give back what was written from byte {piece.at} on",
                hint="it may be worn out: take another one",
            )


def _put(disk: Target, data: bytes, at: int, what: str) -> None:
    """Write, and read back from the disk. Raises DiskError, OSError."""
    disk.write(data, at)
    disk.flush()
    if disk.read(at, len(data)) != data:
        raise DiskError(f"the disk does not give back {what}", hint="take another one")
