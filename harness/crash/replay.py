"""The disk as a power cut leaves it after so many writes.

Of what was not flushed a disk may have kept all, nothing, or only the last: these three stand for
the many that there are. Sectors are written whole, so a cut within a request counts its sectors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO, NamedTuple

from harness.crash.disk import copy_image
from harness.crash.log import Write

SECTOR = 512
# Of a request of more sectors four places count, since all in between are alike.
_SMALL, _PLACES = 16, 4


class Cut(NamedTuple):
    """A cut after ``writes`` requests; ``kept`` says what of the unflushed is there."""

    writes: int
    kept: str

    def __str__(self) -> str:
        return f"cut after {self.writes} writes, of the unflushed {self.kept} kept"


class Replay:
    """A raw disk image that is carried through every state which a cut may leave."""

    def __init__(self, image: Path, size: int, into: Path) -> None:
        """``into`` becomes a copy of ``image`` with ``size`` bytes. Raises HarnessError."""
        copy_image(image, size, into)
        self.path = into

    def each(
        self,
        writes: Iterable[Write],
        look: Callable[[Cut], None],
        *,
        wanted: Callable[[Write], bool],
    ) -> int:
        """Call ``look`` in every state around the ``wanted`` writes; returns how many there were.

        A write that is not wanted gets no look, but counts among what was not flushed. A wanted one
        is cut between its sectors.
        """
        looks = 0
        unflushed: list[tuple[int, bytes]] = []  # where, and what was there before
        with self.path.open("r+b", buffering=0) as stream:
            for number, write in enumerate(writes):
                asked = bool(write.data) and wanted(write)
                step = _step(len(write.data)) if asked else max(len(write.data), 1)
                for start in range(0, len(write.data), step):
                    at, piece = write.offset + start, write.data[start : start + step]
                    unflushed.append((at, _swap(stream, at, piece)))
                    if asked:
                        look(Cut(number, "all"))
                        looks += 1
                if asked:
                    looks += self._without(stream, unflushed, number, look)
                if write.flush:
                    unflushed.clear()
        return looks

    def _without(
        self,
        stream: BinaryIO,
        unflushed: list[tuple[int, bytes]],
        number: int,
        look: Callable[[Cut], None],
    ) -> int:
        """Look at the disk without what was not flushed, and with its last sector alone."""
        taken = [(at, _swap(stream, at, before)) for at, before in reversed(unflushed)]
        look(Cut(number, "nothing"))
        at, last = taken[0]
        before = _swap(stream, at, last)
        look(Cut(number, "the last"))
        _swap(stream, at, before)
        for at, data in reversed(taken):
            _swap(stream, at, data)
        return 2


def _step(length: int) -> int:
    """How many bytes lie between two looks at a request of ``length``."""
    sectors = -(-length // SECTOR)
    return SECTOR * (1 if sectors <= _SMALL else -(-sectors // _PLACES))


def _swap(stream: BinaryIO, at: int, data: bytes) -> bytes:
    """Write ``data``, and return what was there."""
    stream.seek(at)
    before = stream.read(len(data)).ljust(len(data), b"\0")
    stream.seek(at)
    stream.write(data)
    return before
