"""A superblock whose two sectors are of different times."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from product.disk.cli import main
from product.disk.errors import DiskError
from product.disk.superblock import checksum, mend
from product.image.tools import HostTools

MIB = 1 << 20
# Where the file system says how often it was mounted, in the first half; how much it was written.
MOUNTS_AT, BACKUP_AT = 1024 + 52, 32768 * 4096


@pytest.fixture
def volume(tools: HostTools, tmp_path: Path) -> Path:
    """A file system of two groups."""
    path = tmp_path / "volume"
    with path.open("wb") as stream:
        stream.truncate(256 * MIB)
    tools.run("mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-L", "KSOLODATA", path)
    return path


def _write(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as stream:
        stream.seek(at)
        stream.write(data)


def _tear(path: Path) -> None:
    _write(path, MOUNTS_AT, struct.pack("<H", 7))


def _superblock(path: Path) -> bytes:
    with path.open("rb") as stream:
        stream.seek(1024)
        return stream.read(1024)


def test_a_whole_one_is_left_alone(volume: Path) -> None:
    before = _superblock(volume)
    assert not mend(str(volume))
    assert _superblock(volume) == before
    assert main(["mend", str(volume)]) == 3


def test_a_torn_one_is_mended(volume: Path, tools: HostTools) -> None:
    _tear(volume)
    torn = _superblock(volume)
    assert main(["mend", str(volume)]) == 0
    found = _superblock(volume)
    assert found[:1020] == torn[:1020]
    assert struct.unpack_from("<I", found, 1020)[0] == checksum(found[:1020])
    tools.run("e2fsck", "-f", "-n", volume)
    assert not mend(str(volume))


@pytest.mark.parametrize("at", [1024 + 24, 1024 + 40, 1024 + 96, 1024 + 110])
def test_one_that_tells_of_another_file_system_stays(volume: Path, at: int) -> None:
    _write(volume, at, b"\x55")
    before = _superblock(volume)
    with pytest.raises(DiskError, match=r"damaged, not torn|no backup"):
        mend(str(volume))
    assert _superblock(volume) == before


def test_a_journal_in_use_is_no_damage(volume: Path) -> None:
    incompatible = struct.unpack_from("<I", _superblock(volume), 96)[0]
    _write(volume, 1024 + 96, struct.pack("<I", incompatible | 4))
    assert mend(str(volume))


def test_without_a_sound_backup_nothing_is_written(
    volume: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _tear(volume)
    _write(volume, BACKUP_AT + 100, b"\xff")
    before = _superblock(volume)
    assert main(["mend", str(volume)]) == 1
    assert "no backup" in capsys.readouterr().out
    assert _superblock(volume) == before


def test_what_is_no_ext4_is_one_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "nothing"
    path.write_bytes(bytes(4096))
    assert main(["mend", str(path)]) == 1
    assert "no superblock" in capsys.readouterr().out
    assert main(["mend", str(tmp_path / "absent")]) == 1
    assert "cannot mend" in capsys.readouterr().out
