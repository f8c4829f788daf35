"""The log of a real QEMU's writes, and the disk at each cut."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from harness.crash.log import Write, read_log
from harness.crash.replay import SECTOR, Cut, Replay
from harness.errors import HarnessError


def _log(path: Path, entries: list[tuple[int, bytes, int]]) -> Path:
    """As the kernel's document of dm-log-writes describes it."""
    blocks = [struct.pack("<QQQI", 0x6A736677736872, 1, len(entries), 512).ljust(512, b"\0")]
    for sector, data, flags in entries:
        blocks.append(struct.pack("<QQQQ", sector, len(data) // 512, flags, 0).ljust(512, b"\0"))
        blocks.append(data)
    path.write_bytes(b"".join(blocks))
    return path


def _sector(letter: bytes) -> bytes:
    return letter * SECTOR


def test_requests_come_in_their_order(tmp_path: Path) -> None:
    log = _log(
        tmp_path / "log",
        [(3, _sector(b"a") * 2, 0), (0, b"", 1), (9, _sector(b"b"), 2), (1, b"", 4)],
    )
    assert list(read_log(log)) == [
        Write(3 * 512, _sector(b"a") * 2, False),
        Write(0, b"", True),
        Write(9 * 512, _sector(b"b"), True),
    ]


def test_another_file_and_a_torn_one_are_errors(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(bytes(1024))
    with pytest.raises(HarnessError, match="is no log of writes"):
        list(read_log(other))
    torn = _log(tmp_path / "torn", [(3, _sector(b"a") * 2, 0)])
    torn.write_bytes(torn.read_bytes()[:-1])
    with pytest.raises(HarnessError, match="ends within entry 0 of 1"):
        list(read_log(torn))


def test_every_state_that_a_cut_may_leave(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(_sector(b".") * 4)
    replay = Replay(image, 4 * SECTOR, tmp_path / "disk")
    writes = [
        Write(0, _sector(b"a"), False),
        Write(0, b"", True),
        Write(SECTOR, _sector(b"u"), False),  # unwanted, and not flushed
        Write(2 * SECTOR, _sector(b"b") + _sector(b"c"), False),
    ]
    seen: list[tuple[str, str]] = []

    def look(cut: Cut) -> None:
        seen.append((f"{cut.writes} {cut.kept}", replay.path.read_bytes()[::SECTOR].decode()))

    looks = replay.each(writes, look, wanted=lambda write: write.data[:1] != b"u")
    assert seen == [
        ("0 all", "a..."),
        ("0 nothing", "...."),
        ("0 the last", "a..."),
        ("3 all", "aub."),
        ("3 all", "aubc"),
        ("3 nothing", "a..."),
        ("3 the last", "a..c"),
    ]
    assert looks == len(seen)
    assert replay.path.read_bytes()[::SECTOR] == b"aubc"
    assert image.read_bytes() == _sector(b".") * 4


def test_a_disk_that_is_larger_than_its_image(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(_sector(b"."))
    replay = Replay(image, 8 * SECTOR, tmp_path / "disk")
    replay.each([Write(7 * SECTOR, _sector(b"z"), True)], lambda cut: None, wanted=lambda _: True)
    assert replay.path.read_bytes()[::SECTOR] == b".\0\0\0\0\0\0z"
