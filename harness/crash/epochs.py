"""The states that a power cut may leave, flush by flush.

An epoch is what was written between two flushes. When the first of them ended, all before it was on
the disk; of the epoch itself a disk may have kept any part, in any order. From each epoch come:
every number of its first writes, each of these with its last write torn at every sector (its front
alone, or its end alone), all of it without any one write, any one write alone, the same with two
writes, and the first writes without one of the latest, as far as a bound goes.

A state is known by a fingerprint for each part of the disk: the exclusive or of the fingerprints of
all its sectors, so that one sector changes it in constant time, and two states with equal content
have equal ones, however they came about.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from harness.crash.disk import SECTOR, Disk
from harness.crash.log import Write
from harness.errors import HarnessError

Fingerprints = tuple[int, ...]
_ALL = slice(None)


class Cut(NamedTuple):
    """What is there of an epoch: its first ``whole`` writes, of the next one its first ``sectors``
    that change anything (its last, where negative), and of these not those in ``without``; or those
    in ``only`` alone."""

    epoch: int
    whole: int
    sectors: int = 0
    without: tuple[int, ...] = ()
    only: tuple[int, ...] | None = None

    @property
    def kind(self) -> str:
        """prefix, torn, or reordered."""
        if self.without or self.only is not None:
            return "reordered"
        return "torn" if self.sectors else "prefix"

    def __str__(self) -> str:
        if self.only is not None:
            what = f"of its writes only {', '.join(map(str, self.only))}"
        else:
            what = f"its first {self.whole} writes"
            if self.sectors:
                end = "first" if self.sectors > 0 else "last"
                what += f" and the {end} {abs(self.sectors)} sectors of the next"
            if self.without:
                what += f", without {', '.join(map(str, self.without))}"
        return f"flush epoch {self.epoch}, {what}"


def epochs(writes: Iterable[Write]) -> Iterator[list[Write]]:
    """The writes of each epoch; none is empty. Raises HarnessError."""
    pending: list[Write] = []
    for write in writes:
        if write.flush and write.data:
            raise HarnessError(
                "a write that forces itself onto the disk (FUA) is not replayed here"
            )
        if write.data:
            pending.append(write)
        if write.flush and pending:
            yield pending
            pending = []
    if pending:
        yield pending


def fingerprint(sector: int, data: bytes) -> int:
    """Of one sector's content, at its place."""
    key = sector.to_bytes(8, "little")
    return int.from_bytes(hashlib.blake2b(data, digest_size=16, key=key).digest(), "little")


class Epoch:
    """One epoch over a disk that has everything before it."""

    def __init__(
        self,
        number: int,
        writes: Sequence[Write],
        disk: Disk,
        part: Callable[[int], int],
        parts: int,
    ) -> None:
        """``part`` gives the number of the part that a sector belongs to, of ``parts``."""
        self.number = number
        self.writes = writes
        self._parts = parts
        self._part: dict[int, int] = {}
        self._before: dict[int, int] = {}
        # Sectors of each write, with their fingerprints and where in it they are; who writes one.
        self._sectors: list[list[tuple[int, int, int]]] = []
        changing: set[int] = set()
        owners: dict[int, list[int]] = {}
        for index, write in enumerate(writes):
            row = []
            first = write.offset // SECTOR
            before = disk.read(write.offset, len(write.data))
            for i in range(len(write.data) // SECTOR):
                sector, piece = first + i, slice(i * SECTOR, (i + 1) * SECTOR)
                if sector not in self._before:
                    self._before[sector] = fingerprint(sector, before[piece])
                    self._part[sector] = part(sector)
                mark = fingerprint(sector, write.data[piece])
                row.append((sector, mark, i))
                owners.setdefault(sector, []).append(index)
                if mark != self._before[sector]:
                    changing.add(sector)
            self._sectors.append(row)
        # What is written as it was makes no state.
        self._sectors = [[entry for entry in row if entry[0] in changing] for row in self._sectors]
        # The same by part: most of what is written is content that few judgements read.
        self._rows: list[dict[int, list[tuple[int, int, int]]]] = []
        for row in self._sectors:
            by_part: dict[int, list[tuple[int, int, int]]] = {}
            for entry in row:
                by_part.setdefault(self._part[entry[0]], []).append(entry)
            self._rows.append(by_part)
        owners = {sector: who for sector, who in owners.items() if sector in changing}
        self._owners = owners
        # Of a write whose sectors nobody else writes: how it changes the fingerprints.
        self._changes: list[Fingerprints | None] = [self._change(i) for i in range(len(writes))]
        self._marks = [{s: mark for s, mark, _ in row} for row in self._sectors]

    def _change(self, index: int) -> Fingerprints | None:
        found = [0] * self._parts
        for sector, mark, _ in self._sectors[index]:
            if len(self._owners[sector]) > 1:
                return None
            found[self._part[sector]] ^= mark ^ self._before[sector]
        return tuple(found)

    def states(self, begin: Fingerprints, bound: int) -> Iterator[tuple[Fingerprints, Cut]]:
        """Every state within ``bound``, some perhaps more than once; the last is the whole epoch.

        ``begin`` are the fingerprints of the disk before the epoch. Equal bounds give equal states.
        """
        number, count = self.number, len(self.writes)
        now = list(begin)
        present: dict[int, int] = {}
        yield begin, Cut(number, 0)
        for index, row in enumerate(self._sectors):
            changes = [
                (self._part[sector], mark ^ present.get(sector, self._before[sector]))
                for sector, mark, _ in row
            ]
            for done, (part, change) in enumerate(changes, 1):
                now[part] ^= change
                if done < len(row):
                    yield tuple(now), Cut(number, index, done)
            whole = tuple(now)
            tail = list(now)
            for missing, (part, change) in enumerate(changes[:-1], 1):
                tail[part] ^= change
                yield tuple(tail), Cut(number, index, missing - len(row))
            present.update((sector, mark) for sector, mark, _ in row)
            yield whole, Cut(number, index + 1)
            for early in range(max(0, index - bound), index):
                yield (
                    self._without(whole, index + 1, (early,)),
                    Cut(number, index + 1, 0, (early,)),
                )
        end = tuple(now)
        for index in range(count):
            yield self._without(end, count, (index,)), Cut(number, count, 0, (index,))
            yield self._only(begin, (index,)), Cut(number, 0, 0, (), (index,))
            for other in range(index + 1, min(count, index + 1 + bound)):
                pair = (index, other)
                yield self._without(end, count, pair), Cut(number, count, 0, pair)
                yield self._only(begin, pair), Cut(number, 0, 0, (), pair)
        yield end, Cut(number, count)

    def end(self, begin: Fingerprints) -> Fingerprints:
        """The fingerprints of the disk after all of it."""
        found = list(begin)
        for sector, writers in self._owners.items():
            found[self._part[sector]] ^= self._before[sector] ^ self._marks[writers[-1]][sector]
        return tuple(found)

    def _without(self, whole: Fingerprints, count: int, missing: tuple[int, ...]) -> Fingerprints:
        """Of the first ``count`` writes, whose fingerprints are ``whole``, without ``missing``."""
        changes = [self._changes[i] for i in missing]
        if None not in changes:
            return _combined(whole, changes)
        found = list(whole)
        for sector in {s for i in missing for s, _, _ in self._sectors[i]}:
            before = self._last(sector, lambda i: i < count)
            after = self._last(sector, lambda i: i < count and i not in missing)
            found[self._part[sector]] ^= before ^ after
        return tuple(found)

    def _only(self, begin: Fingerprints, present: tuple[int, ...]) -> Fingerprints:
        changes = [self._changes[i] for i in present]
        if None not in changes:
            return _combined(begin, changes)
        found = list(begin)
        for sector in {s for i in present for s, _, _ in self._sectors[i]}:
            found[self._part[sector]] ^= self._before[sector] ^ self._last(
                sector, lambda i: i in present
            )
        return tuple(found)

    def _last(self, sector: int, present: Callable[[int], bool]) -> int:
        for index in reversed(self._owners[sector]):
            if present(index):
                return self._marks[index][sector]
        return self._before[sector]

    def overlay(self, cut: Cut, wanted: Callable[[int], bool]) -> Mapping[int, bytes]:
        """The sectors that a state has otherwise than the disk before the epoch, of the ``wanted``
        parts."""
        found: dict[int, bytes] = {}
        if cut.only is not None:
            order: Iterable[int] = cut.only
        else:
            order = (i for i in range(cut.whole) if i not in cut.without)
        for index in order:
            self._lay(found, index, _ALL, wanted)
        if cut.sectors > 0:
            self._lay(found, cut.whole, slice(cut.sectors), wanted)
        elif cut.sectors:
            self._lay(found, cut.whole, slice(cut.sectors, None), wanted)
        return found

    def _lay(
        self, found: dict[int, bytes], index: int, chosen: slice, wanted: Callable[[int], bool]
    ) -> None:
        data = self.writes[index].data
        if chosen == _ALL:
            rows = [row for part, row in self._rows[index].items() if wanted(part)]
        else:
            rows = [[e for e in self._sectors[index][chosen] if wanted(self._part[e[0]])]]
        for row in rows:
            for sector, _, i in row:
                found[sector] = data[i * SECTOR : (i + 1) * SECTOR]


def _combined(begin: Fingerprints, changes: Sequence[Fingerprints | None]) -> Fingerprints:
    found = begin
    for change in changes:
        assert change is not None
        found = tuple(a ^ b for a, b in zip(found, change, strict=True))
    return found
