"""What is read of file systems is what their own programs made."""

from __future__ import annotations

import os
import random
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.crash.crc32c import crc32c
from harness.crash.ext4 import Ext4, Ext4Error
from harness.crash.fat32 import Fat32, FatError
from harness.qemu.tools import HostTools

MIB = 1 << 20
SMALL, LARGE = b"few bytes\n", random.Random(1).randbytes(3 * MIB + 77)


def _run(tools: HostTools, *argv: str) -> None:
    subprocess.run(tools.argv(*argv), check=True, capture_output=True)


def _reader(path: Path) -> Callable[[int, int], bytes]:
    def read(offset: int, length: int) -> bytes:
        with path.open("rb") as stream:
            return os.pread(stream.fileno(), length, offset).ljust(length, b"\0")

    return read


@pytest.fixture
def ext4(host_tools: HostTools, tmp_path: Path) -> Path:
    """An ext4 with some files, made by mke2fs."""
    folder = tmp_path / "files"
    (folder / "below").mkdir(parents=True)
    (folder / "below" / "small").write_bytes(SMALL)
    (folder / "large").write_bytes(LARGE)
    (folder / "empty").touch()
    path = tmp_path / "ext4"
    with path.open("wb") as stream:
        stream.truncate(64 * MIB)
    _run(host_tools, "mke2fs", "-q", "-t", "ext4", "-b", "4096", "-d", str(folder), str(path))
    return path


def test_an_ext4_has_its_files(ext4: Path) -> None:
    found = Ext4(_reader(ext4), replay=True)
    assert found.names() == ["below", "empty", "large", "lost+found"]
    assert found.file("below/small") == SMALL
    assert found.file("/large") == LARGE
    assert found.file("empty") == b""
    assert (found.file("absent"), found.file("large/below"), found.file("below")) == (None,) * 3
    assert sorted(found.tree()) == ["below/small", "empty", "large"]
    assert found.size("large") == len(LARGE)


def _journal(tools: HostTools, path: Path, script: str) -> None:
    """debugfs leaves transactions in the journal, and the file system in need of them."""
    subprocess.run(
        tools.argv("debugfs", "-w", "-f", "-", str(path)),
        input=script.encode(), check=True, capture_output=True,
    )  # fmt: skip


def test_a_journal_is_replayed_as_e2fsck_does_it(
    ext4: Path, host_tools: HostTools, tmp_path: Path
) -> None:
    at = Ext4(_reader(ext4), replay=False).extents("below/small")
    assert at is not None
    block = at[0][0]
    new = tmp_path / "new"
    new.write_bytes(b"out of the journal\n".ljust(4096, b"\0"))
    _journal(host_tools, ext4, f"jo -c\njw -b {block} {new}\njc\n")
    linux = Ext4(_reader(ext4), replay=True)
    assert linux.transactions == 1
    grub = Ext4(_reader(ext4), replay=False)
    assert grub.file("below/small") == SMALL
    seen = linux.file("below/small")
    subprocess.run(host_tools.argv("e2fsck", "-p", str(ext4)), check=False, capture_output=True)
    assert Ext4(_reader(ext4), replay=False).file("below/small") == seen == b"out of the"


def test_a_torn_superblock_is_refused_as_linux_does(ext4: Path) -> None:
    with ext4.open("r+b") as stream:
        stream.seek(1024 + 52)
        stream.write(struct.pack("<H", 9))
    assert Ext4(_reader(ext4), replay=False).file("large") == LARGE
    with pytest.raises(Ext4Error, match="torn"):
        Ext4(_reader(ext4), replay=True)


def test_the_checksum_is_that_of_the_superblock(ext4: Path) -> None:
    head = _reader(ext4)(1024, 1024)
    assert crc32c(0xFFFFFFFF, head[:1020]) == struct.unpack_from("<I", head, 1020)[0]


def test_noise_is_an_error_and_no_crash(ext4: Path) -> None:
    """Whatever one damaged sector says, only Ext4Error tells of it."""
    whole = ext4.read_bytes()
    rng = random.Random(7)
    for _ in range(60):
        at = rng.randrange(2, 3000) * 512
        data = whole[:at] + rng.randbytes(512) + whole[at + 512 :]

        def read(offset: int, length: int, data: bytes = data) -> bytes:
            return data[offset : offset + length].ljust(length, b"\0")

        try:
            found = Ext4(read, replay=True)
            for name in found.tree():
                found.file(name)
        except Ext4Error:
            pass


@pytest.fixture
def fat(host_tools: HostTools, tmp_path: Path) -> Path:
    """A FAT32 with some files, made by mtools."""
    path = tmp_path / "fat"
    with path.open("wb") as stream:
        stream.truncate(64 * MIB)
    (tmp_path / "large").write_bytes(LARGE)
    (tmp_path / "small").write_bytes(SMALL)
    _run(host_tools, "mformat", "-i", str(path), "-F", "-T", str(64 * MIB // 512), "::")
    _run(host_tools, "mmd", "-i", str(path), "::EFI", "::EFI/BOOT")
    large, small = str(tmp_path / "large"), str(tmp_path / "small")
    _run(host_tools, "mcopy", "-i", str(path), large, "::EFI/BOOT/BOOTX64.EFI")
    _run(host_tools, "mcopy", "-i", str(path), small, "::a longer name than eight.txt")
    return path


def test_a_fat_has_its_files(fat: Path) -> None:
    found = Fat32(_reader(fat))
    assert found.file("efi/boot/bootx64.efi") == LARGE
    assert found.file("A longer name than eight.txt") == SMALL
    assert (found.file("absent"), found.file("EFI"), found.file("EFI/absent/x")) == (None,) * 3
    assert sorted(found.walk("EFI")) == ["EFI/BOOT/BOOTX64.EFI"]
    assert len(list(found.walk())) == 2


def test_a_chain_that_leads_nowhere_is_an_error(fat: Path) -> None:
    found = Fat32(_reader(fat))
    places = found.places("EFI/BOOT/BOOTX64.EFI")
    assert places is not None
    cluster = (places[1] - found.data) // found.cluster + 2
    (reserved,) = struct.unpack_from("<H", _reader(fat)(0, 512), 14)
    with fat.open("r+b") as stream:
        stream.seek(reserved * 512 + cluster * 4)
        stream.write(bytes(4))
    with pytest.raises(FatError, match="leads to none"):
        Fat32(_reader(fat)).file("EFI/BOOT/BOOTX64.EFI")
    with pytest.raises(FatError, match="no FAT32"):
        Fat32(lambda offset, length: bytes(length))
