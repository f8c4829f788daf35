"""Labels of FAT and ISO 9660, as the usual tools write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from product.disk.labels import Volume, read_volume
from product.image.tools import HostTools

MIB = 1 << 20
# Bytes of the label in the boot sector, by the size of the FAT.
BOOT_LABEL = {12: 43, 16: 43, 32: 71}


def fat(tools: HostTools, path: Path, label: str, bits: int = 16) -> Path:
    with path.open("wb") as stream:
        stream.truncate({12: 8, 16: 32, 32: 40}[bits] * MIB)
    tools.run("mkfs.vfat", "-F", str(bits), "-n", label, path)
    return path


@pytest.mark.parametrize("bits", BOOT_LABEL)
def test_the_label_of_each_fat(tools: HostTools, tmp_path: Path, bits: int) -> None:
    assert read_volume(str(fat(tools, tmp_path / "disk", "CIDATA", bits))) == Volume(
        "vfat", ("CIDATA",)
    )


@pytest.mark.parametrize("bits", BOOT_LABEL)
def test_a_label_in_the_boot_sector_alone(tools: HostTools, tmp_path: Path, bits: int) -> None:
    path = fat(tools, tmp_path / "disk", "NO NAME", bits)
    with path.open("r+b") as stream:
        stream.seek(BOOT_LABEL[bits])
        stream.write(b"cidata     ")
    assert read_volume(str(path)) == Volume("vfat", ("cidata",))


@pytest.mark.parametrize("bits", BOOT_LABEL)
def test_a_label_in_the_root_directory_alone(tools: HostTools, tmp_path: Path, bits: int) -> None:
    path = fat(tools, tmp_path / "disk", "CIDATA", bits)
    with path.open("r+b") as stream:
        stream.seek(BOOT_LABEL[bits])
        stream.write(b"NO NAME    ")
    assert read_volume(str(path)) == Volume("vfat", ("CIDATA",))


def test_an_iso_image(tools: HostTools, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files/user-data").write_text("#cloud-config\n")
    path = tmp_path / "seed.iso"
    tools.run("xorriso", "-as", "mkisofs", "-quiet", "-V", "cidata", "-o", path, tmp_path / "files")
    assert read_volume(str(path)) == Volume("iso9660", ("cidata",))


def test_a_disk_with_a_table_an_ext4_and_nothing_have_none(
    tools: HostTools, tmp_path: Path
) -> None:
    for number, script in enumerate((b"label: gpt\n", b"label: dos\nstart=2048\n")):
        path = tmp_path / f"disk{number}"
        with path.open("wb") as stream:
            stream.truncate(8 * MIB)
        assert read_volume(str(path)) is None
        tools.run("sfdisk", "-q", "--no-reread", "--no-tell-kernel", path, stdin=script)
        assert read_volume(str(path)) is None
    tools.run("mke2fs", "-q", "-t", "ext4", "-L", "cidata", tmp_path / "disk0")
    assert read_volume(str(tmp_path / "disk0")) is None
    assert read_volume(str(tmp_path / "missing")) is None
    (tmp_path / "short").write_bytes(b"\x55\xaa")
    assert read_volume(str(tmp_path / "short")) is None
