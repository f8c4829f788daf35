"""States of an epoch: each has the fingerprints of its content, and none is forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import pytest

from harness.crash.disk import SECTOR, Disk, View
from harness.crash.epochs import Cut, Epoch, epochs, fingerprint
from harness.crash.log import Write
from harness.errors import HarnessError

SECTORS = 16


def _write(at: int, *contents: int) -> Write:
    data = b"".join(bytes([content]) * SECTOR for content in contents)
    return Write(at * SECTOR, data, False)


FLUSH = Write(0, b"", True)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    """Sectors with the numbers 100 and up."""
    image = tmp_path / "image"
    image.write_bytes(b"".join(bytes([100 + n]) * SECTOR for n in range(SECTORS)))
    return Disk(image, SECTORS * SECTOR, tmp_path / "disk")


def _content(disk: Disk, overlay: dict[int, bytes]) -> bytes:
    return View(disk, 0, SECTORS * SECTOR, overlay).read(0, SECTORS * SECTOR)


def _prints(content: bytes, before: bytes) -> tuple[int, ...]:
    found = [0, 0]
    for sector in range(SECTORS):
        piece = slice(sector * SECTOR, (sector + 1) * SECTOR)
        mark = fingerprint(sector, content[piece]) ^ fingerprint(sector, before[piece])
        found[sector % 2] ^= mark
    return tuple(found)


@pytest.mark.parametrize(
    "writes",
    [
        [_write(0, 1, 2, 3), _write(4, 4), _write(8, 5, 6)],
        # One that writes again what another has written, in part; one that changes nothing.
        [_write(0, 1, 2), _write(1, 3, 4), _write(0, 1), _write(5, 105)],
        # One that brings back what was there before.
        [_write(3, 1), _write(3, 103), _write(2, 7, 8)],
    ],
)
def test_fingerprints_are_those_of_the_content(disk: Disk, writes: list[Write]) -> None:
    epoch = Epoch(1, writes, disk, lambda sector: sector % 2, 2)
    before = _content(disk, {})
    contents = set()
    for prints, cut in epoch.states((0, 0), 2):
        content = _content(disk, dict(epoch.overlay(cut, lambda part: True)))
        assert prints == _prints(content, before), cut
        contents.add(content)
    assert _expected(before, writes) <= contents
    assert epoch.end((0, 0)) == _prints(_applied(before, writes), before)


def _applied(before: bytes, writes: Sequence[Write]) -> bytes:
    disk = bytearray(before)
    for write in writes:
        disk[write.offset : write.offset + len(write.data)] = write.data
    return bytes(disk)


def _expected(before: bytes, writes: Sequence[Write]) -> set[bytes]:
    """Prefixes, torn writes, one and two missing, one and two alone."""
    found = {before}
    for count, write in enumerate(writes):
        for length in range(SECTOR, len(write.data) + 1, SECTOR):
            torn = Write(write.offset, write.data[:length], False)
            end = Write(write.offset + len(write.data) - length, write.data[-length:], False)
            found.add(_applied(before, [*writes[:count], torn]))
            found.add(_applied(before, [*writes[:count], end]))
    for number in (1, 2):
        for chosen in combinations(range(len(writes)), number):
            if chosen[-1] - chosen[0] <= 2:
                found.add(_applied(before, [writes[i] for i in chosen]))
                found.add(_applied(before, [w for i, w in enumerate(writes) if i not in chosen]))
    return found


def test_a_view_of_some_parts_has_no_others(disk: Disk) -> None:
    epoch = Epoch(1, [_write(0, 1, 2)], disk, lambda sector: sector % 2, 2)
    overlay = epoch.overlay(Cut(1, 1), lambda part: part == 1)
    assert set(overlay) == {1}


def test_a_view_reads_across_sectors(disk: Disk) -> None:
    view = View(disk, SECTOR, 4 * SECTOR, {2: bytes([9]) * SECTOR})
    assert view.read(SECTOR - 2, 4) == bytes([101, 101, 9, 9])
    assert view.read(2 * SECTOR - 2, 4) == bytes([9, 9, 103, 103])
    assert view.read(3 * SECTOR, 4) == bytes(4), "beyond its end is nothing"


def test_a_copy_shows_what_the_view_shows(disk: Disk, tmp_path: Path) -> None:
    view = View(disk, SECTOR, 5 * SECTOR, {2: b"x" * SECTOR, 3: b"y" * SECTOR, 9: b"z" * SECTOR})
    view.copy(tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == view.read(0, 4 * SECTOR)


def test_flushes_divide_the_writes() -> None:
    one, two, three = _write(0, 1), _write(1, 2), _write(2, 3)
    found = list(epochs([FLUSH, one, two, FLUSH, FLUSH, three]))
    assert found == [[one, two], [three]]
    with pytest.raises(HarnessError, match="FUA"):
        list(epochs([Write(0, b"x", True)]))
