"""A disk whose writing was cut off at any write starts nothing, or a whole system."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from product.disk.block import BLOCK
from product.disk.errors import DiskError
from product.disk.gpt import Disk, Partition, read_table
from product.disk.pieces import Document, Piece
from product.image.media.pieces_of import split
from product.image.tools import HostTools
from product.installer.write import HEAD, SECTOR, Configure, install

MIB = 1 << 20
Medium = tuple[Path, Document, Path]


class PowerCut(Exception):
    """The plug was pulled."""


class FileTarget:
    """A disk in a file, which loses its power at a write; ``forget`` lets it lie about one.

    Of the write at which the power goes some sectors come to the disk: those that ``torn`` picks.
    """

    def __init__(
        self, path: Path, *, cut_at: int = -1, forget: int = -1, torn: random.Random | None = None
    ) -> None:
        self._path = path
        self._cut, self._forget, self._torn = cut_at, forget, torn
        self.writes = 0
        self.size = path.stat().st_size

    def write(self, data: bytes, at: int) -> None:
        number, self.writes = self.writes, self.writes + 1
        if number == self._cut:
            if self._torn is not None:
                for start in range(0, len(data), SECTOR):
                    if self._torn.random() < 0.5:
                        self._put(data[start : start + SECTOR], at + start)
            raise PowerCut
        if number != self._forget:
            self._put(data, at)

    def _put(self, data: bytes, at: int) -> None:
        with self._path.open("r+b") as stream:
            stream.seek(at)
            stream.write(data)

    def zero(self, at: int, length: int) -> None:
        if length:
            self.write(bytes(length), at)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass

    def read(self, at: int, length: int) -> bytes:
        with self._path.open("rb") as stream:
            stream.seek(at)
            return stream.read(length)


def partitioned(path: Path, size: int, tools: HostTools, name: str) -> None:
    with path.open("wb") as stream:
        stream.truncate(size)
    guid = "11111111-0000-0000-0000-00000000000"
    script = f"label: gpt\nlabel-id: {guid}1\nfirst-lba: 2048\n"
    script += f"start=2048, size=8192, uuid={guid}2, name={name}\n"
    tools.run("sfdisk", "-q", "--no-reread", "--no-tell-kernel", path, stdin=script.encode())


@pytest.fixture
def medium(tmp_path: Path, host_tools: HostTools) -> tuple[Path, Document, Path]:
    """An image, its document, and the folder of the files that it is made of."""
    image, folder = tmp_path / "image", tmp_path / "medium"
    folder.mkdir()
    partitioned(image, 8 * MIB, host_tools, "KSOLOEFI")
    data = random.Random(3).randbytes(2 * MIB + 99)
    with image.open("r+b") as stream:
        stream.write(b"code")
        stream.seek(2 * MIB)
        stream.write(data)
    (folder / "root.squashfs").write_bytes(data)
    document = split(image, {"root.squashfs": folder / "root.squashfs"}, folder / "rest.bin")
    return image, document, folder


def old_disk(path: Path, tools: HostTools, size: int = 12 * MIB) -> Path:
    """One that something else was on, which starts."""
    partitioned(path, size, tools, "OTHERS")
    with path.open("r+b") as stream:
        stream.seek(5 * MIB)
        stream.write(b"\xff" * (size - 6 * MIB - 17 * 1024))
    return path


CONFIGURED = b"hostname: edge-7"
CONFIGURED_AT = 5 * MIB


def put(medium: Medium, target: FileTarget, configure: Configure | None = None) -> None:
    _, document, folder = medium

    def mark(esp: Partition) -> None:
        assert (esp.name, esp.first) == ("KSOLOEFI", 2048)
        target.write(CONFIGURED, CONFIGURED_AT)

    install(
        document,
        lambda name: os.open(folder / name, os.O_RDONLY),
        target,
        configure or mark,
    )


def has_table(path: Path) -> bool:
    """Whether firmware finds a table, at the front or at the end."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        read_table(Disk(descriptor, str(path)))
        return True
    except DiskError:
        return False
    finally:
        os.close(descriptor)


def outcome(path: Path, old: bytes, new: bytes) -> str:
    """ "old" and "new" are whole systems, "none" starts nothing; anything else fails."""
    data = path.read_bytes()
    code = data[510:512] == b"\x55\xaa"
    if not has_table(path) and not code:
        return "none"
    # The first thing to go is the copy of the old table, then the first MiB.
    if data[HEAD:-SECTOR] == old[HEAD:-SECTOR]:
        return "old"
    # UEFI takes the copy of the table where the first is not there yet.
    assert data[BLOCK : len(new)] == new[BLOCK:], "half a system"
    assert not code or data[: len(new)] == new, "BIOS starts half a system"
    return "new"


def configured(image: Path) -> bytes:
    data = bytearray(image.read_bytes())
    data[CONFIGURED_AT : CONFIGURED_AT + len(CONFIGURED)] = CONFIGURED
    return bytes(data)


def test_the_disk_holds_the_image(medium: Medium, tmp_path: Path, host_tools: HostTools) -> None:
    disk = old_disk(tmp_path / "disk", host_tools)
    put(medium, FileTarget(disk))
    data = disk.read_bytes()
    new = configured(medium[0])
    assert data[: len(new)] == new
    # The old table's copy at the disk's end is gone.
    assert not any(data[-MIB:])


@pytest.mark.parametrize("size", [12 * MIB, 8 * MIB])
@pytest.mark.parametrize("torn", [None, 1, 2])
def test_a_power_cut_at_any_write_leaves_a_whole_system_or_none(
    medium: Medium, tmp_path: Path, host_tools: HostTools, size: int, torn: int | None
) -> None:
    whole = FileTarget(old_disk(tmp_path / "whole", host_tools, size))
    old = (tmp_path / "whole").read_bytes()
    put(medium, whole)
    new = configured(medium[0])
    found = []
    for cut in range(whole.writes):
        disk = tmp_path / "disk"
        disk.write_bytes(old)
        picked = None if torn is None else random.Random(torn * 1000 + cut)
        with pytest.raises(PowerCut):
            put(medium, FileTarget(disk, cut_at=cut, torn=picked))
        found.append(outcome(disk, old, new))
    # First the old system, then none, then the new one: never a way back.
    assert sorted(found, key=["old", "none", "new"].index) == found
    assert found[0] == "old"
    assert found.count("none") >= whole.writes - 6
    assert outcome(tmp_path / "whole", old, new) == "new"


def test_a_write_that_the_disk_forgets_is_noticed(
    medium: Medium, tmp_path: Path, host_tools: HostTools
) -> None:
    whole = FileTarget(old_disk(tmp_path / "whole", host_tools))
    old = (tmp_path / "whole").read_bytes()
    put(medium, whole)
    new = configured(medium[0])
    unnoticed = 0
    for number in range(whole.writes):
        disk = tmp_path / "disk"
        disk.write_bytes(old)
        try:
            put(medium, FileTarget(disk, forget=number))
        except DiskError:
            continue
        # The configuration is read back by who writes it; zeros are overwritten, or old data.
        unnoticed += 1
        data = disk.read_bytes()
        for piece in medium[1].pieces:
            if not piece.at <= CONFIGURED_AT < piece.end:
                assert data[piece.at : piece.end] == new[piece.at : piece.end]
    assert 0 < unnoticed < whole.writes - 3


def test_a_medium_that_changed_is_noticed_before_the_table(
    medium: Medium, tmp_path: Path, host_tools: HostTools
) -> None:
    disk = old_disk(tmp_path / "disk", host_tools)
    file = medium[2] / "root.squashfs"
    data = bytearray(file.read_bytes())
    data[MIB] ^= 1
    file.write_bytes(data)
    with pytest.raises(DiskError, match="do not match"):
        put(medium, FileTarget(disk))
    assert not has_table(disk)


def test_a_configuration_that_fails_leaves_no_table(
    medium: Medium, tmp_path: Path, host_tools: HostTools
) -> None:
    # The image fills the disk: the copy of its table is where firmware looks for it.
    disk = old_disk(tmp_path / "disk", host_tools, 8 * MIB)

    def configure(_: Partition) -> None:
        raise DiskError("full")

    with pytest.raises(DiskError, match="full"):
        put(medium, FileTarget(disk), configure)
    assert not has_table(disk)


def test_a_damaged_medium_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(b"x" * (4 * MIB))
    across = Piece(HEAD - 4096, 8192, "rest.bin", 0, "0" * 64)
    for pieces, words in (((across,), "lies across"), ((), "has no partition table")):
        with pytest.raises(DiskError, match=words):
            install(
                Document(4 * MIB, "0" * 64, pieces),
                lambda _: os.open(os.devnull, os.O_RDONLY),
                FileTarget(disk),
                lambda _: None,
            )
        assert disk.read_bytes() == b"x" * (4 * MIB)
