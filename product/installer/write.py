"""Writing the disk image, so that a disk whose writing was cut off starts nothing.

The old tables at both ends go first. All else is written and read back from the disk before the
first MiB, which has the table and BIOS's code, comes: from its end to its front, its first block
last.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Callable
from typing import Protocol

from product.disk.errors import DiskError
from product.disk.pieces import Document, OpenFile, Piece, content, zero

HEAD = 1 << 20
_BLOCK = 4096
_CHUNK = 4 << 20
# From linux/fs.h.
_BLKFLSBUF = 0x1261

# What is done ("write", "verify"), bytes done, bytes in all.
Progress = Callable[[str, int, int], None]


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


class BlockDevice:
    """A disk in /dev."""

    def __init__(self, path: str) -> None:
        """Raises OSError, also where something uses the disk."""
        # Whoever has it mounted keeps it to himself.
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_EXCL))
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._direct = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT)
        self.size = os.lseek(self._descriptor, 0, os.SEEK_END)

    def close(self) -> None:
        """Give the disk back."""
        os.close(self._descriptor)
        os.close(self._direct)

    def write(self, data: bytes, at: int) -> None:
        """See Target."""
        view = memoryview(data)
        while view:
            done = os.pwrite(self._descriptor, view, at)
            view, at = view[done:], at + done

    def zero(self, at: int, length: int) -> None:
        """See Target."""
        zero(self._descriptor, at, length)

    def flush(self) -> None:
        """See Target."""
        import fcntl

        os.fsync(self._descriptor)
        fcntl.ioctl(self._descriptor, _BLKFLSBUF, 0)

    def read(self, at: int, length: int) -> bytes:
        """See Target; past the page cache."""
        first = at // _BLOCK * _BLOCK
        last = -(-(at + length) // _BLOCK) * _BLOCK
        with mmap.mmap(-1, last - first) as buffer:
            with memoryview(buffer) as view:
                count = os.preadv(self._direct, [view], first)
            if count < at + length - first:
                raise OSError(5, f"it ends at byte {first + count}")
            return buffer[at - first : at - first + length]


def install(
    document: Document,
    open_file: OpenFile,
    disk: Target,
    configure: Callable[[], None],
    progress: Progress = lambda *_: None,
) -> None:
    """Write the image; ``configure`` is called when all but the head is on the disk.

    Raises DiskError, OSError; the disk then starts nothing.
    """
    head, rest = _head(document, open_file)
    # On a disk of the image's size firmware finds the table's backup, too, so it comes late.
    tail = [piece for piece in rest if piece.at >= document.size - HEAD]
    rest = rest[: len(rest) - len(tail)]
    # The backup first: until the table is gone, too, the disk is what it was.
    end = disk.size // _BLOCK * _BLOCK
    disk.zero(max(HEAD, end - HEAD), min(HEAD, end - HEAD))
    disk.flush()
    disk.zero(0, HEAD)
    disk.flush()
    total = sum(piece.length for piece in rest)
    _write(document, rest, open_file, disk, lambda done: progress("write", done, total))
    disk.flush()
    _verify(rest, disk, lambda done: progress("verify", done, total))
    configure()
    disk.flush()
    for piece in tail:
        disk.write(b"".join(content(piece, open_file)), piece.at)
    disk.flush()
    _verify(tail, disk, lambda _: None)
    # UEFI reads sector 1, BIOS sector 0: both are in the block that comes last.
    disk.write(head[_BLOCK:], _BLOCK)
    disk.flush()
    if disk.read(_BLOCK, HEAD - _BLOCK) != head[_BLOCK:]:
        raise DiskError("the disk does not give back the partition table's entries")
    disk.write(head[:_BLOCK], 0)
    disk.flush()
    if disk.read(0, _BLOCK) != head[:_BLOCK]:
        raise DiskError("the disk does not give back the partition table")


def _head(document: Document, open_file: OpenFile) -> tuple[bytes, list[Piece]]:
    """The first MiB, and the pieces behind it."""
    head, rest = bytearray(HEAD), []
    for piece in document.pieces:
        if piece.at >= HEAD:
            rest.append(piece)
        elif piece.end > HEAD:
            raise DiskError(f"a piece of the image lies across its byte {HEAD}")
        else:
            head[piece.at : piece.end] = b"".join(content(piece, open_file))
    if b"EFI PART" not in head[:_BLOCK]:
        raise DiskError("the image has no partition table", hint="the medium is damaged")
    return bytes(head), rest


def _write(
    document: Document,
    rest: list[Piece],
    open_file: OpenFile,
    disk: Target,
    progress: Callable[[int], None],
) -> None:
    done, position = 0, HEAD
    for piece in rest:
        disk.zero(position, piece.at - position)
        at = piece.at
        for data in content(piece, open_file):
            # The kernel fills up the last block; what an older system left there must go.
            disk.write(data + bytes(-len(data) % _BLOCK), at)
            at += len(data)
            done += len(data)
            progress(done)
        position = -(-piece.end // _BLOCK) * _BLOCK
        disk.flush()
    disk.zero(position, document.size - position)


def _verify(rest: list[Piece], disk: Target, progress: Callable[[int], None]) -> None:
    done = 0
    for piece in rest:
        digest = hashlib.sha256()
        for at in range(piece.at, piece.end, _CHUNK):
            data = disk.read(at, min(_CHUNK, piece.end - at))
            digest.update(data)
            done += len(data)
            progress(done)
        if digest.hexdigest() != piece.sha256:
            raise DiskError(
                f"the disk does not give back what was written from byte {piece.at} on",
                hint="it may be worn out: take another one",
            )
