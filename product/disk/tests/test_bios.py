"""What BIOS starts is the old core or the new one after each sector that is written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from product.disk.bios import PLACES, SECTOR, boot_code, install, is_installed, place_core
from product.disk.gpt import Disk
from product.disk.prepare import open_disk

BOOT = b"\xeb\x63" + b"b" * 510
OLD, NEW = b"o" * 5000, b"n" * 7000


@pytest.mark.parametrize("place", PLACES)
def test_a_cut_at_any_sector_leaves_one_that_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    path = tmp_path / "disk"
    content = bytearray(1 << 20)
    content[:440] = boot_code(BOOT, place)
    content[510:512] = b"\x55\xaa"
    old = place_core(OLD, place)
    content[place * SECTOR : place * SECTOR + len(old)] = old
    path.write_bytes(content)
    seen: list[str] = []

    def write(self: Disk, sector: int, data: bytes) -> None:
        for at in range(0, len(data), SECTOR):
            os.pwrite(self._descriptor, data[at : at + SECTOR], sector * SECTOR + at)
            whole = [name for name, core in cores.items() if is_installed(self, BOOT, core)]
            assert len(whole) == 1, f"after sector {sector + at // SECTOR}: {whole}"
            seen.extend(whole)

    cores = {"old": OLD, "new": NEW}
    monkeypatch.setattr(Disk, "write", write)
    with open_disk(str(path)) as disk:
        install(disk, BOOT, NEW)
    # The switch is the last sector.
    assert seen == ["old"] * (len(seen) - 1) + ["new"]
    assert path.read_bytes()[440:512] == bytes(content[440:512])
