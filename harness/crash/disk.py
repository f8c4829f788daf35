"""A disk's content in a file, and what a power cut would leave of it, without writing that."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from harness.crash.log import Write
from harness.errors import HarnessError

SECTOR = 512
_PIECE = 1 << 20


def copy_image(image: Path, size: int, into: Path) -> None:
    """``into`` becomes a sparse copy of ``image`` with ``size`` bytes. Raises HarnessError."""
    done = subprocess.run(
        ["cp", "--sparse=always", "--reflink=auto", str(image), str(into)],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise HarnessError(f"cannot copy {image}: {done.stderr.decode().strip()}")
    os.truncate(into, size)


class Disk:
    """A raw image of our own; beyond what it was made from it is zero."""

    def __init__(self, image: Path, size: int, into: Path) -> None:
        """``into`` becomes a copy of ``image`` with ``size`` bytes. Raises HarnessError."""
        copy_image(image, size, into)
        self.path = into
        self.size = size
        self._file = os.open(into, os.O_RDWR | os.O_CLOEXEC)

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of it."""
        return os.pread(self._file, length, offset).ljust(length, b"\0")

    def write(self, write: Write) -> None:
        """Keep a write; zeros over zeros take no room."""
        data, at = write.data, write.offset
        if len(data) >= _PIECE // 4 and not any(data):
            for start in range(0, len(data), _PIECE):
                length = min(_PIECE, len(data) - start)
                if any(self.read(at + start, length)):
                    os.pwrite(self._file, bytes(length), at + start)
            return
        os.pwrite(self._file, data, at)

    def extents(self, begin: int, end: int) -> Iterator[tuple[int, int]]:
        """Where between two bytes anything was written: (first, last + 1)."""
        at = begin
        with suppress(OSError):
            while at < end:
                at = os.lseek(self._file, at, os.SEEK_DATA)
                if at >= end:
                    return
                stop = min(end, os.lseek(self._file, at, os.SEEK_HOLE))
                yield at, stop
                at = stop

    def close(self) -> None:
        """Let go of the file, which stays."""
        os.close(self._file)


class View:
    """Bytes ``begin`` to ``end`` of a disk with some sectors otherwise."""

    def __init__(self, disk: Disk, begin: int, end: int, overlay: Mapping[int, bytes]) -> None:
        self.disk = disk
        self.begin = begin
        self.end = end
        self.overlay = overlay

    def read(self, offset: int, length: int) -> bytes:
        """Bytes from its beginning on."""
        at = self.begin + offset
        if at + length > self.end or offset < 0:
            # What a damaged file system points at need not be there.
            return bytes(length)
        base = self.disk.read(at, length)
        if not self.overlay:
            return base
        first, last = at // SECTOR, (at + length - 1) // SECTOR
        if last - first < len(self.overlay):
            hits = [sector for sector in range(first, last + 1) if sector in self.overlay]
        else:
            hits = [sector for sector in self.overlay if first <= sector <= last]
        if not hits:
            return base
        changed = bytearray(base)
        for sector in hits:
            data = self.overlay[sector]
            where = sector * SECTOR - at
            if where < 0:
                data, where = data[-where:], 0
            data = data[: length - where]
            changed[where : where + len(data)] = data
        return bytes(changed)

    def copy(self, into: Path) -> None:
        """Write what it shows into a new sparse file."""
        target = os.open(into, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(target, self.end - self.begin)
            for first, last in self.disk.extents(self.begin, self.end):
                for at in range(first, last, _PIECE):
                    data = self.disk.read(at, min(_PIECE, last - at))
                    os.pwrite(target, data, at - self.begin)
            for at, data in _runs(self.overlay):
                if self.begin <= at < self.end:
                    os.pwrite(target, data, at - self.begin)
        finally:
            os.close(target)


def _runs(overlay: Mapping[int, bytes]) -> Iterator[tuple[int, bytes]]:
    """Sectors that follow each other as one piece: its first byte, and the piece."""
    run: list[bytes] = []
    first = -1
    for sector in sorted(overlay):
        if sector != first + len(run):
            if run:
                yield first * SECTOR, b"".join(run)
            first, run = sector, []
        run.append(overlay[sector])
    if run:
        yield first * SECTOR, b"".join(run)
