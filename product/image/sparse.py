"""Sparse files: a disk image has 1.4 GB, of which a few percent are written; the rest are holes."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from typing import Self

from product.image.errors import ImageError

_BLOCK = 1 << 20
_ZERO = bytes(_BLOCK)


def extents(descriptor: int, end: int, begin: int = 0) -> Iterator[tuple[int, int]]:
    """Start and stop of each part between ``begin`` and ``end`` that is written, in order.

    A file system that knows no holes says that the whole file is written.
    """
    position = begin
    while position < end:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return  # Nothing but a hole is left.
        if start >= end:
            return
        position = min(os.lseek(descriptor, start, os.SEEK_HOLE), end)
        yield start, position


class GrowingSum:
    """SHA-256 of a file that is written from front to back, computed while it is written.

    ``reach`` says how far the file is final, ``finish`` that it is final as a whole.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._limits: Queue[int | None] = Queue()
        self._executor = ThreadPoolExecutor(max_workers=1)
        self._sum = self._executor.submit(self._run)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._limits.put(None)
        self._executor.shutdown()

    def reach(self, offset: int) -> None:
        """Nothing before ``offset`` will change any more."""
        self._limits.put(offset)

    def finish(self) -> str:
        """The hex digits that ``sha256sum`` prints. Raises ImageError, OSError."""
        self._limits.put(self._path.stat().st_size)
        self._limits.put(None)
        return self._sum.result()

    def _run(self) -> str:
        digest = hashlib.sha256()
        done = 0
        while (limit := self._limits.get()) is not None:
            # Opened anew: the programs that write the file may have replaced it.
            with self._path.open("rb", buffering=0) as stream:
                _add(digest, stream.fileno(), done, limit, self._path)
            done = limit
        return digest.hexdigest()


def copy(source: Path, target: Path) -> None:
    """Copy a file with its mode; holes stay holes.

    Raises ImageError for a target that is no regular file.
    """
    if target.exists() and not target.is_file():
        raise ImageError(
            f"{target} is no regular file, and only to one can holes be written",
            hint="write the image to a file, then the file to the device, as dd does",
        )
    with source.open("rb", buffering=0) as reader, target.open("wb", buffering=0) as writer:
        size = os.fstat(reader.fileno()).st_size
        for start, end in extents(reader.fileno(), size):
            reader.seek(start)
            writer.seek(start)
            while start < end:
                count = os.sendfile(writer.fileno(), reader.fileno(), None, end - start)
                if not count:
                    raise ImageError(f"{source} became shorter while it was copied")
                start += count
        writer.truncate(size)
    shutil.copymode(source, target)


def _add(digest: hashlib._Hash, descriptor: int, begin: int, end: int, path: Path) -> None:
    """Add the bytes from ``begin`` to ``end``; those of holes are not read."""
    for start, stop in extents(descriptor, end, begin):
        _add_zeros(digest, start - begin)
        os.lseek(descriptor, start, os.SEEK_SET)
        while start < stop:
            block = os.read(descriptor, min(stop - start, _BLOCK))
            if not block:
                raise ImageError(f"{path} became shorter while it was read")
            digest.update(block)
            start += len(block)
        begin = stop
    _add_zeros(digest, end - begin)


def _add_zeros(digest: hashlib._Hash, count: int) -> None:
    whole, rest = divmod(count, _BLOCK)
    for _ in range(whole):
        digest.update(_ZERO)
    digest.update(_ZERO[:rest])
