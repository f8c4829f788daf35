"""Reading from the disk and writing to it without the page cache in between, or in the way.

What the page cache says of a file just written proves nothing, and a release that fills it pushes
out what the node works with.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Iterator

CHUNK = 1024 * 1024
# How much may be dirty before it is sent to the disk.
_SPAN = 4 * 1024 * 1024


def from_disk(path: str) -> Iterator[memoryview]:
    """The bytes of ``path`` as the device has them; each piece is gone with the next.

    Direct I/O writes out what is dirty and asks the device whatever is cached. Where the file
    system has none, what is cached is forgotten first, as far as the kernel likes. Raises OSError.
    """
    descriptor = _open(path)
    try:
        size = os.fstat(descriptor).st_size
        done = 0
        # Direct I/O wants memory that begins with a page, and offsets at the device's blocks: it
        # is never asked at the end of a file, which need not be one.
        with mmap.mmap(-1, CHUNK) as buffer, memoryview(buffer) as view:
            while done < size and (count := os.readv(descriptor, [view])):
                done += count
                with view[:count] as piece:
                    yield piece
    finally:
        os.close(descriptor)


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    return descriptor


class Writeback:
    """Sends a file to the disk while it is being written, so that little is left for fsync."""

    def __init__(self, descriptor: int, begin: int = 0) -> None:
        self._descriptor = descriptor
        self._sent = begin

    def written(self, end: int) -> None:
        """Everything before offset ``end`` was written."""
        if end - self._sent < _SPAN:
            return
        # Of dirty pages this starts the writing; those of the span before are clean by now and go.
        begin = max(0, self._sent - _SPAN)
        os.posix_fadvise(self._descriptor, begin, end - begin, os.POSIX_FADV_DONTNEED)
        self._sent = end
