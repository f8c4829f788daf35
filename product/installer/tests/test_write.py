"""A disk whose writing was cut off at any write starts nothing, or is complete."""

from __future__ import annotations

import hashlib
import os
import random
from pathlib import Path

import pytest

from product.disk.errors import DiskError
from product.disk.gpt import Disk, read_table
from product.disk.pieces import Document, Piece
from product.image.media.pieces_of import split
from product.image.tools import HostTools
from product.installer.write import HEAD, install

MIB = 1 << 20


class PowerCut(Exception):
    """The plug was pulled."""


class FileTarget:
    """A disk in a file, which loses its power at a write; ``forget`` lets it lie about one."""

    def __init__(self, path: Path, *, cut_at: int = -1, forget: int = -1) -> None:
        self._path = path
        self._left, self._forget = cut_at, forget
        self.writes = 0
        self.size = path.stat().st_size

    def _step(self) -> bool:
        if self.writes == self._left:
            raise PowerCut
        self.writes += 1
        return self.writes - 1 != self._forget

    def write(self, data: bytes, at: int) -> None:
        if self._step():
            with self._path.open("r+b") as stream:
                stream.seek(at)
                stream.write(data)

    def zero(self, at: int, length: int) -> None:
        if length:
            self.write(bytes(length), at)

    def flush(self) -> None:
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


def put(medium: tuple[Path, Document, Path], target: FileTarget) -> None:
    _, document, folder = medium
    install(document, lambda name: os.open(folder / name, os.O_RDONLY), target, lambda: None)


def starts(path: Path) -> bool:
    """Whether firmware finds a table on it, at the front or at the end, or code in its MBR."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        read_table(Disk(descriptor, str(path)))
        return True
    except DiskError:
        return any(path.read_bytes()[:446])
    finally:
        os.close(descriptor)


def test_the_disk_holds_the_image(
    medium: tuple[Path, Document, Path], tmp_path: Path, host_tools: HostTools
) -> None:
    disk = old_disk(tmp_path / "disk", host_tools)
    put(medium, FileTarget(disk))
    image, document, _ = medium
    data = disk.read_bytes()
    assert hashlib.sha256(data[: document.size]).hexdigest() == document.sha256
    assert data[: document.size] == image.read_bytes()
    # The old table's copy at the disk's end is gone.
    assert not any(data[-MIB:])


@pytest.mark.parametrize("size", [12 * MIB, 8 * MIB])
def test_a_power_cut_at_any_write_leaves_nothing_that_starts(
    medium: tuple[Path, Document, Path], tmp_path: Path, host_tools: HostTools, size: int
) -> None:
    whole = FileTarget(old_disk(tmp_path / "whole", host_tools, size))
    put(medium, whole)
    image = medium[0].read_bytes()
    before = old_disk(tmp_path / "before", host_tools, size).read_bytes()
    started = []
    for cut in range(1, whole.writes + 1):
        disk = old_disk(tmp_path / "disk", host_tools, size)
        target = FileTarget(disk, cut_at=cut)
        if cut < whole.writes:
            with pytest.raises(PowerCut):
                put(medium, target)
        else:
            put(medium, target)
        if starts(disk):
            started.append(cut)
            data = disk.read_bytes()
            old = data[: size - MIB] == before[: size - MIB]
            new = data[MIB : len(image)] == image[MIB:]
            assert old or new, f"half a system after {cut} writes"
    # What was there before, then nothing, and at the end the system: its last block, and on a disk
    # of the image's size the table's backup before it.
    assert started == [1, *range(whole.writes - (2 if size == len(image) else 0), whole.writes + 1)]


def test_a_write_that_the_disk_forgets_is_noticed(
    medium: tuple[Path, Document, Path], tmp_path: Path, host_tools: HostTools
) -> None:
    whole = FileTarget(old_disk(tmp_path / "whole", host_tools))
    put(medium, whole)
    noticed = 0
    for number in range(whole.writes):
        disk = old_disk(tmp_path / "disk", host_tools)
        try:
            put(medium, FileTarget(disk, forget=number))
        except DiskError:
            noticed += 1
            assert not starts(disk) or number in (0, whole.writes - 1)
    # Zeros that are not written over what nobody reads are the only ones that may go unseen.
    assert noticed >= 4


def test_a_medium_that_changed_is_noticed_before_the_table(
    medium: tuple[Path, Document, Path], tmp_path: Path, host_tools: HostTools
) -> None:
    disk = old_disk(tmp_path / "disk", host_tools)
    file = medium[2] / "root.squashfs"
    data = bytearray(file.read_bytes())
    data[MIB] ^= 1
    file.write_bytes(data)
    with pytest.raises(DiskError, match="do not match"):
        put(medium, FileTarget(disk))
    assert not starts(disk)


def test_a_configuration_that_fails_leaves_no_table(
    medium: tuple[Path, Document, Path], tmp_path: Path, host_tools: HostTools
) -> None:
    disk = old_disk(tmp_path / "disk", host_tools)
    _, document, folder = medium

    def configure() -> None:
        raise DiskError("full")

    with pytest.raises(DiskError, match="full"):
        install(
            document, lambda name: os.open(folder / name, os.O_RDONLY), FileTarget(disk), configure
        )
    assert not starts(disk)


def test_a_piece_across_the_head_is_refused(tmp_path: Path) -> None:
    document = Document(4 * MIB, "0" * 64, (Piece(HEAD - 4096, 8192, "a", 0, "0" * 64),))
    (tmp_path / "a").write_bytes(bytes(8192))
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(4 * MIB))
    with pytest.raises(DiskError, match="lies across"):
        put((disk, document, tmp_path), FileTarget(disk))
    assert not disk.read_bytes().strip(b"\0")
