"""Two folders change places by one sector."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from product.disk.errors import DiskError
from product.disk.fat import count_clusters, exchange
from product.image.disk import Partition, require_fat32
from product.image.errors import ImageError
from product.image.tools import HostTools


class Esp:
    """A FAT32 file system in a file, made and read by mtools."""

    def __init__(self, path: Path, tools: HostTools) -> None:
        self.path = path
        self._tools = tools
        with path.open("wb") as stream:
            stream.truncate(64 << 20)
        self._run("mformat", "-F", "-v", "KSOLOEFI", "::")

    def _run(self, program: str, *args: str | Path) -> bytes:
        return self._tools.run(program, "-i", self.path, *args)

    def folder(self, name: str) -> None:
        self._run("mmd", f"::{name}")

    def write(self, name: str, text: str) -> None:
        source = self.path.with_name("source")
        source.write_text(text)
        self._run("mcopy", "-o", source, f"::{name}")

    def read(self, name: str) -> str:
        return self._run("mtype", f"::{name}").decode()

    def check(self) -> None:
        """The file system is whole, says fsck.fat."""
        self._tools.run("fsck.fat", "-n", self.path)


@pytest.fixture
def esp(tmp_path: Path, tools: HostTools) -> Esp:
    made = Esp(tmp_path / "esp", tools)
    for name in ("EFI", "EFI/BOOT", "SPARE", "SPARE/BOOT"):
        made.folder(name)
    # Longer than a cluster.
    made.write("EFI/BOOT/loader.efi", "old" * 10_000)
    made.write("SPARE/BOOT/loader.efi", "new" * 20_000)
    made.folder("boot")
    made.write("boot/grubenv", "kept")
    return made


def test_folders_change_places_and_back(esp: Esp) -> None:
    before = esp.path.read_bytes()
    exchange(str(esp.path), [("EFI", "SPARE")])
    assert esp.read("EFI/BOOT/loader.efi") == "new" * 20_000
    assert esp.read("SPARE/BOOT/loader.efi") == "old" * 10_000
    assert esp.read("boot/grubenv") == "kept"
    esp.check()
    after = esp.path.read_bytes()
    different = {at // 512 for at in range(len(before)) if before[at] != after[at]}
    assert len(different) == 1
    exchange(str(esp.path), [("EFI", "SPARE")])
    assert esp.path.read_bytes() == before


def test_it_is_one_write_of_one_sector_and_what_came_before_is_flushed(
    esp: Esp, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    write, flush = os.pwrite, os.fsync

    def record_write(descriptor: int, data: bytes, at: int) -> int:
        done.append(f"write {len(data)}")
        return write(descriptor, data, at)

    def record_flush(descriptor: int) -> None:
        done.append("flush")
        flush(descriptor)

    monkeypatch.setattr(os, "pwrite", record_write)
    monkeypatch.setattr(os, "fsync", record_flush)
    exchange(str(esp.path), [("EFI", "SPARE")])
    assert done == ["flush", "write 512", "flush"]


def test_entries_in_two_sectors_are_refused(tmp_path: Path, tools: HostTools) -> None:
    esp = Esp(tmp_path / "esp", tools)
    esp.folder("EFI")
    for number in range(16):
        esp.folder(f"X{number}")
    esp.folder("SPARE")
    before = esp.path.read_bytes()
    with pytest.raises(DiskError, match="lie in 2 sectors"):
        exchange(str(esp.path), [("EFI", "SPARE")])
    assert esp.path.read_bytes() == before


def test_a_missing_folder_and_another_file_system_are_refused(
    tmp_path: Path, tools: HostTools
) -> None:
    esp = Esp(tmp_path / "esp", tools)
    esp.folder("EFI")
    with pytest.raises(DiskError, match="has no SPARE at its top"):
        exchange(str(esp.path), [("EFI", "SPARE")])
    other = tmp_path / "other"
    other.write_bytes(bytes(4096))
    with pytest.raises(DiskError, match="has no FAT32 file system"):
        exchange(str(other), [("EFI", "SPARE")])
    with pytest.raises(DiskError, match=r"cannot open .*nowhere: No such file"):
        exchange(str(tmp_path / "nowhere"), [("EFI", "SPARE")])


def test_a_deleted_entry_of_the_name_does_not_count(esp: Esp, tools: HostTools) -> None:
    tools.run("mdeltree", "-i", esp.path, "::SPARE")
    with pytest.raises(DiskError, match="has no SPARE at its top"):
        exchange(str(esp.path), [("EFI", "SPARE")])
    esp.folder("SPARE")
    esp.write("SPARE/new", "new")
    exchange(str(esp.path), [("EFI", "SPARE")])
    assert esp.read("EFI/new") == "new"


def test_several_change_places_by_one_sector(esp: Esp) -> None:
    esp.write("START.ELF", "old")
    esp.write("START.NEW", "new" * 5_000)
    esp.write("CONFIG.TXT", "old config")
    # The image makes it without content.
    esp.write("CONFIG.NEW", "")
    before = esp.path.read_bytes()
    pairs = [("EFI", "SPARE"), ("START.ELF", "START.NEW"), ("CONFIG.TXT", "CONFIG.NEW")]
    exchange(str(esp.path), pairs)
    assert esp.read("EFI/BOOT/loader.efi") == "new" * 20_000
    assert (esp.read("START.ELF"), esp.read("START.NEW")) == ("new" * 5_000, "old")
    assert (esp.read("CONFIG.TXT"), esp.read("CONFIG.NEW")) == ("", "old config")
    esp.check()
    after = esp.path.read_bytes()
    assert len({at // 512 for at in range(len(before)) if before[at] != after[at]}) == 1
    exchange(str(esp.path), pairs)
    assert esp.path.read_bytes() == before


def test_a_folder_and_a_file_do_not_change_places(esp: Esp) -> None:
    esp.write("CONFIG.TXT", "text")
    before = esp.path.read_bytes()
    with pytest.raises(DiskError, match=r"one of EFI and CONFIG\.TXT on .* is a folder"):
        exchange(str(esp.path), [("CONFIG.TXT", "CONFIG.TXT"), ("EFI", "CONFIG.TXT")])
    with pytest.raises(DiskError, match=r"has no START\.ELF at its top"):
        exchange(str(esp.path), [("EFI", "SPARE"), ("START.ELF", "START.NEW")])
    assert esp.path.read_bytes() == before


@pytest.mark.parametrize("clusters", [65524, 65525])
def test_clusters_are_counted_as_firmware_does(
    tmp_path: Path, tools: HostTools, clusters: int
) -> None:
    path = tmp_path / "fat"
    # Reserved sectors, two tables of 512 sectors, one sector a cluster.
    sectors = 32 + 2 * 512 + clusters
    path.touch()
    os.truncate(path, sectors * 512)
    tools.run("mkfs.fat", "-F", "32", "-s", "1", "-R", "32", "-f", "2", "-a", path)
    with path.open("rb") as stream:
        assert count_clusters(stream.read(512)) == clusters
    part = Partition("KSOLOEFI", 0, 0, "")
    if clusters < 65525:
        with pytest.raises(ImageError, match="KSOLOEFI has 65524 clusters"):
            require_fat32(path, part)
    else:
        require_fat32(path, part)


def test_what_is_no_fat_has_no_clusters() -> None:
    with pytest.raises(DiskError, match="neither sectors nor clusters"):
        count_clusters(bytes(512))
