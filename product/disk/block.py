"""A disk's content as the disk has it: what is written is flushed, what is read is not cached."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os

from product.disk.pieces import zero

__all__ = ["flush", "read_uncached", "write_all", "zero"]

# Direct reads begin and end at a multiple of it.
BLOCK = 4096
# From linux/fs.h.
_BLKFLSBUF = 0x1261


def flush(descriptor: int, *, is_device: bool) -> None:
    """Bring everything to the disk, and forget what is cached of it. Raises OSError."""
    os.fsync(descriptor)
    if is_device:
        fcntl.ioctl(descriptor, _BLKFLSBUF, 0)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def write_all(descriptor: int, data: bytes, at: int) -> None:
    """Write all of ``data``, from byte ``at`` on. Raises OSError."""
    view = memoryview(data)
    while view:
        done = os.pwrite(descriptor, view, at)
        view, at = view[done:], at + done


def read_uncached(direct: int, at: int, length: int) -> bytes:
    """What the disk has; ``direct`` was opened with O_DIRECT. Raises OSError, also past its end."""
    first, last = at // BLOCK * BLOCK, -(-(at + length) // BLOCK) * BLOCK
    with mmap.mmap(-1, last - first) as buffer:
        with memoryview(buffer) as view:
            count = os.preadv(direct, [view], first)
        if count < at + length - first:
            raise OSError(errno.EIO, f"it ends at byte {first + count}")
        return buffer[at - first : at - first + length]
