"""Images whose slots a Raspberry Pi's firmware starts."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from product.agent.bootloader.protocol import Environment
from product.agent.bootloader.tests.loaders import Tryboot as TrybootFile
from product.disk.boot_files import BOARD_NAME, RECORD, parse_record, sources
from product.disk.errors import DiskError
from product.disk.gpt import read_table
from product.disk.prepare import open_disk
from product.image import disk
from product.image.build import DEFAULT_RECIPE, Builder, Image
from product.image.cache import Cache, file_sha256
from product.image.errors import RecipeError
from product.image.kernel import Kernel
from product.image.recipe import Arch, Tryboot
from product.image.tools import HostTools
from product.image.tryboot import board_archive, write_esp
from product.manifest import MANIFEST_NAME


@pytest.fixture(scope="module")
def image(cache: Cache, host_tools: HostTools) -> Image:
    """The appliance for this hardware."""
    builder = Builder(
        Arch.AARCH64, cache=cache, tools=host_tools, recipe=DEFAULT_RECIPE, hardware="rpi-tryboot"
    )
    return builder.image("0.1.0")


def test_the_data_partition_is_the_last_on_the_disk(image: Image) -> None:
    with open_disk(str(image.disk), writable=False) as opened:
        table = read_table(opened)
    names = {number: part.name for number, part in table.partitions.items()}
    assert names == {
        1: "KSOLOEFI", 2: "KSOLOA", 3: "KSOLOB", 4: "KSOLODATA", 5: "KSOLOBOOTA", 6: "KSOLOBOOTB",
    }  # fmt: skip
    assert max(table.partitions.values(), key=lambda part: part.first).name == "KSOLODATA"
    boot = {part.label: part for part in disk.layout(boot=True)}
    for part in table.partitions.values():
        assert part.first * 512 == boot[part.name].offset


def place(image: Image, label: str) -> str:
    [part] = [part for part in disk.layout(boot=True) if part.label == label]
    return f"{image.disk}@@{part.offset}"


def test_the_boot_partition_of_slot_a_is_whole(
    image: Image, host_tools: HostTools, tmp_path: Path
) -> None:
    host_tools.run("mcopy", "-s", "-i", place(image, "KSOLOBOOTA"), "::", tmp_path)
    record = parse_record((tmp_path / RECORD).read_bytes(), RECORD)
    assert record.release == file_sha256(image.slot.folder / MANIFEST_NAME)
    assert {"vmlinuz", "initramfs.img", "cmdline.txt", "config.txt", "start4.elf"} <= set(
        record.files
    )
    for name, digest in record.files.items():
        assert file_sha256(tmp_path / name) == digest
    assert (tmp_path / "cmdline.txt").read_text().startswith("kubesolo.slot=A kubesolo.loader=")
    assert file_sha256(tmp_path / "vmlinuz") == file_sha256(image.slot.folder / "vmlinuz")
    assert host_tools.run("mdir", "-b", "-i", place(image, "KSOLOBOOTB"), "::").strip() == b""


def test_nothing_on_the_first_partition_looks_bootable(image: Image, host_tools: HostTools) -> None:
    listing = host_tools.run("mdir", "-b", "-i", place(image, "KSOLOEFI"), "::")
    assert listing.decode().split() == ["::/autoboot.txt"]


def test_the_factory_state_is_slot_a_confirmed(tmp_path: Path) -> None:
    write_esp(tmp_path / "esp")
    assert TrybootFile(tmp_path / "esp").env.read() == Environment("A", 3, True)


def test_the_release_carries_what_its_boot_partition_needs(image: Image) -> None:
    manifest = json.loads((image.slot.folder / MANIFEST_NAME).read_text())
    assert BOARD_NAME in [artifact["name"] for artifact in manifest["artifacts"]]


def test_files_that_no_package_holds(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path, "6.12", Arch.AARCH64)
    for wanted in (
        Tryboot(config=(), firmware=("a.elf",)),
        Tryboot(config=(), device_trees=("b",)),
    ):
        with pytest.raises(RecipeError, match=r"tryboot names (a.elf|b), and"):
            board_archive(wanted, kernel, tmp_path, 0)


def slot(folder: Path, name: str = "config.txt", block: bytes | None = None) -> Path:
    """A slot's files, with one of this name in board.tar."""
    folder.mkdir()
    for file in ("vmlinuz", "initramfs.img"):
        (folder / file).write_bytes(b"x")
    good = b"# GRUB Environment Block\nkernel_arguments=panic=1 a=\\\\b\n"
    (folder / "kernel.env").write_bytes((block or good).ljust(1024, b"#"))
    with tarfile.open(folder / BOARD_NAME, "w") as archive:
        archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    return folder


def read(folder: Path, guid: str | None = None) -> dict[str, bytes]:
    found = {}
    for source in sources(str(folder), "B", guid):
        with source.open() as stream:
            found[source.name] = stream.read(1 << 20)
    return found


def test_what_a_slot_gives_its_boot_partition(tmp_path: Path) -> None:
    files = read(slot(tmp_path / "b"), "C12A7328-F81F-11D2-BA4B-00A0C93EC93B")
    assert set(files) == {"vmlinuz", "initramfs.img", "cmdline.txt", "config.txt"}
    assert files["cmdline.txt"] == (
        b"kubesolo.slot=B kubesolo.loader=tryboot "
        b"kubesolo.boot=c12a7328-f81f-11d2-ba4b-00a0c93ec93b panic=1 a=\\b\n"
    )


@pytest.mark.parametrize("name", ["../up", "/etc/passwd", "a b", "vmlinuz", "kubesolo.json", ".x"])
def test_names_that_a_board_archive_must_not_have(tmp_path: Path, name: str) -> None:
    with pytest.raises(DiskError, match="a file of the name"):
        read(slot(tmp_path / "b", name))


@pytest.mark.parametrize("damage", ["missing", "garbage", "no arguments", "long"])
def test_a_slot_that_is_not_for_this_hardware(tmp_path: Path, damage: str) -> None:
    folder = slot(tmp_path / "b")
    if damage == "missing":
        (folder / BOARD_NAME).unlink()
    elif damage == "garbage":
        (folder / BOARD_NAME).write_bytes(b"\xff" * 2000)
    elif damage == "no arguments":
        (folder / "kernel.env").write_bytes(b"#" * 1024)
    else:
        text = b"# GRUB Environment Block\nkernel_arguments=" + b"x" * 3000 + b"\n"
        (folder / "kernel.env").write_bytes(text)
    with pytest.raises(DiskError):
        read(folder)
