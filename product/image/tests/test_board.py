"""Boards: what their recipes may say, and what their image has for the firmware."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from pydantic import ValidationError

from product.disk.fat import exchange
from product.disk.loader import IN_ROOT, RECORD, parse_record, spare_name
from product.image import board
from product.image.build import Builder, Image
from product.image.cache import Cache
from product.image.disk import layout
from product.image.errors import RecipeError
from product.image.recipe import Arch, Board, Recipe
from product.image.tools import IMAGES, HostTools

TOP = ("BOOTCODE.BIN", "CONFIG.TXT", "FIXUP.DAT", "FIXUP4.DAT", "START.ELF", "START4.ELF")
OFFSET = layout()[0].offset


@pytest.fixture(scope="module")
def image(cache: Cache, host_tools: HostTools) -> Image:
    return Builder(Arch.AARCH64, cache=cache, tools=host_tools, hardware="rpi").image("0.1.0")


@pytest.mark.parametrize(
    ("places", "said"),
    [
        (["start.elf"], "no place on KSOLOEFI"),
        (["EFI/u-boot.bin"], "no place on KSOLOEFI"),
        (["boot/grub/grubenv"], "no place on KSOLOEFI"),
        (["EFI/../boot/x"], "no place on KSOLOEFI"),
        (["START.NEW"], "no place on KSOLOEFI"),
        (["VERYLONGNAME.BIN"], "no place on KSOLOEFI"),
        (["START.ELF", "START.DAT"], "differ before the extension"),
        (["EFI/BOARD/a", "EFI/BOARD/A"], "two files have one place"),
        ([f"{letter}.BIN" for letter in "ABCDEFG"], "7 files at the top are more than the 6"),
    ],
)
def test_a_place_that_an_update_cannot_replace_is_refused(places: list[str], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Board(texts=dict.fromkeys(places, ""))
    with pytest.raises(ValidationError, match=said):
        Board(files=dict.fromkeys(places, "source"))


def test_a_file_that_no_package_has_is_one_clear_error(tmp_path: Path) -> None:
    tree = tmp_path / "packages"
    (tree / "usr/lib").mkdir(parents=True)
    for name in ("one.dtb", "two.dtb"):
        (tree / "usr/lib" / name).write_text(name)
    one = Board(files={"EFI/BOARD/a.dtb": "usr/lib/one.dtb"}, texts={"CONFIG.TXT": "text\n"})
    board.write(one, [tree], tmp_path / "loader")
    assert (tmp_path / "loader/EFI/BOARD/a.dtb").read_text() == "one.dtb"
    assert (tmp_path / "loader/board/CONFIG.TXT").read_text() == "text\n"
    for pattern, count in (("usr/lib/*.dtb", 2), ("usr/lib/three.dtb", 0)):
        with pytest.raises(RecipeError, match=rf"EFI/BOARD/a\.dtb fits {count} files"):
            board.write(Board(files={"EFI/BOARD/a.dtb": pattern}), [tree], tmp_path / "loader")


def test_a_pi_has_one_architecture(cache: Cache, host_tools: HostTools) -> None:
    with pytest.raises(RecipeError, match="hardware rpi has no x86_64, only aarch64"):
        Builder(Arch.X86_64, cache=cache, tools=host_tools, hardware="rpi")
    recipe = Recipe.load(IMAGES / "appliance.toml")
    assert recipe.board is None
    for arch in Arch:
        recipe.require(arch)


def test_the_firmware_finds_its_files(image: Image, host_tools: HostTools) -> None:
    place = f"{image.disk}@@{OFFSET}"
    root = host_tools.run("mdir", "-i", place, "-a", "-b", "::").decode().split()
    waiting = [spare_name(name) for name in TOP]
    assert root == [
        *sorted([*(f"::/{name}" for name in (*TOP, *waiting)), "::/EFI/", "::/SPARE/"]),
        "::/boot/",
    ]
    config = host_tools.run("mtype", "-i", place, "::/CONFIG.TXT").decode().splitlines()
    (prefix,) = (line.partition("=")[2] for line in config if line.startswith("os_prefix="))
    (kernel,) = (line.partition("=")[2] for line in config if line.startswith("kernel="))
    below = host_tools.run("mdir", "-i", place, "-b", f"::/{prefix}").decode().split()
    assert f"::/{prefix}{kernel}" in below
    assert f"::/{prefix}bcm2837-rpi-3-b.dtb" in below
    assert f"::/{prefix}bcm2711-rpi-4-b.dtb" in below


def test_all_of_it_changes_places_by_one_sector(
    image: Image, host_tools: HostTools, tmp_path: Path
) -> None:
    esp = tmp_path / "esp"
    with image.disk.open("rb") as stream:
        stream.seek(OFFSET)
        esp.write_bytes(stream.read(layout()[0].end - OFFSET))
    before = host_tools.run("mtype", "-i", esp, "::/START.ELF")
    pairs = [("EFI", "SPARE"), *((name, spare_name(name)) for name in TOP)]
    exchange(str(esp), pairs)
    assert host_tools.run("mtype", "-i", esp, "::/START.NEW") == before
    host_tools.run("fsck.fat", "-n", esp)


def test_the_mbr_lists_the_first_partition_beside_the_gpt(
    image: Image, host_tools: HostTools
) -> None:
    with image.disk.open("rb") as stream:
        entries = stream.read(512)[446:510]
    first, second = entries[:16], entries[16:32]
    assert (first[4], *struct.unpack("<II", first[8:])) == (0x0C, OFFSET // 512, 256 * 2048)
    assert (second[4], *struct.unpack("<II", second[8:])) == (0xEE, 1, OFFSET // 512 - 1)
    assert entries[32:] == bytes(32)
    assert b"Disklabel type: gpt" in host_tools.run("sfdisk", "-l", image.disk)


def test_the_release_brings_all_of_it(image: Image, cache: Cache, host_tools: HostTools) -> None:
    builder = Builder(Arch.AARCH64, cache=cache, tools=host_tools, hardware="rpi")
    loader = builder.loader() / IN_ROOT
    place = f"{image.disk}@@{OFFSET}"
    record = parse_record(host_tools.run("mtype", "-i", place, f"::/{RECORD}"), "the card's")
    assert {f"board/{name}" for name in TOP} <= record.files.keys()
    for name in record.files:
        on_card = host_tools.run("mtype", "-i", place, f"::/{name.removeprefix('board/')}")
        assert on_card == (loader / name).read_bytes(), name
