"""The boot loader's files: where they lie, whose they are, what GRUB has built in."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from product.disk.pe import is_signed
from product.image import disk, grub
from product.image.build import Builder
from product.image.cache import Cache
from product.image.errors import ImageError
from product.image.locks import Lock
from product.image.packages import fetch, unpack_all
from product.image.recipe import Arch, Recipe
from product.image.tools import IMAGES, HostTools

SUFFIX = {Arch.X86_64: "x64", Arch.AARCH64: "aa64"}
# GRUB's own syntax, as far as a statement of grub.cfg begins with it.
SYNTAX = {"fi", "function", "}"}


@pytest.fixture(params=list(Arch))
def arch(request: pytest.FixtureRequest) -> Arch:
    return Arch(request.param)


@pytest.fixture
def packages(cache: Cache, arch: Arch, tmp_path: Path) -> Path:
    """The unpacked boot packages."""
    lock = Lock.load(Recipe.load(IMAGES / "appliance.toml").lock_path(arch))
    unpack_all(list(fetch(lock.group("boot"), cache).values()), tmp_path / "packages")
    return tmp_path / "packages"


def test_the_boot_loader_lies_below_one_folder_and_its_environment_does_not(
    cache: Cache, host_tools: HostTools, arch: Arch
) -> None:
    image = Builder(arch, cache=cache, tools=host_tools).image("0.1.0")
    place = f"{image.disk}@@{disk.layout()[0].offset}"
    listing = host_tools.run("mdir", "-i", place, "-/", "-b", "::").decode()
    suffix = SUFFIX[arch]
    assert {line.removeprefix("::/") for line in listing.split() if line[-1] != "/"} == {
        f"EFI/BOOT/BOOT{suffix.upper()}.EFI",
        f"EFI/BOOT/grub{suffix}.efi",
        # Beside these fb*.efi would make entries of its own in the firmware's list.
        f"EFI/BOOT/mm{suffix}.efi",
        "EFI/debian/grub.cfg",
        "EFI/loader.json",
        "boot/grub/fresh",
        "boot/grub/grubenv",
    }
    root = host_tools.run("mdir", "-i", place, "-a", "-b", "::").decode().split()
    assert root == ["::/EFI/", "::/SPARE/", "::/boot/"]
    config = host_tools.run("mtype", "-i", place, "::/EFI/debian/grub.cfg")
    assert config == (IMAGES / "boot/grub.cfg").read_bytes()


def test_what_uefi_starts_carries_a_signature(packages: Path, arch: Arch) -> None:
    """In the place that Microsoft's specification of the format PE has for it: directory 4."""
    for source, target in grub.SIGNED[arch]:
        content = (packages / source).read_bytes()
        # What the node asks before it installs one.
        assert is_signed(content)
        assert not is_signed(content[:-1])
        assert not is_signed(b"MZ" + content[2:100])
        header = int.from_bytes(content[0x3C:0x40], "little")
        assert content[header : header + 4] == b"PE\0\0", target
        entry = header + 24 + 112 + 4 * 8
        offset, size = (int.from_bytes(content[at : at + 4], "little") for at in (entry, entry + 4))
        assert size > 1000, target
        assert offset + size == len(content), target


def test_the_signed_grub_has_all_that_the_configuration_uses(packages: Path, arch: Arch) -> None:
    [signed] = [source for source, target in grub.SIGNED[arch] if "/grub" in target]
    content = (packages / signed).read_bytes()
    for name in (*grub.MODULES, *_commands((IMAGES / "boot/grub.cfg").read_text())):
        assert b"\0" + name.encode() + b"\0" in content, name
    assert b"\0/EFI/debian\0" in content


def _commands(config: str) -> set[str]:
    """The first words of GRUB's statements, without its syntax and the functions defined there."""
    own = set(re.findall(r"^function (\w+)", config, re.MULTILINE))
    found = set()
    for statement in re.split(r"[;\n]", re.sub(r"^\s*#.*", "", config, flags=re.MULTILINE)):
        words = statement.split()
        while words and words[0] in ("if", "elif", "then", "else"):
            words.pop(0)
        if words and words[0] not in SYNTAX:
            found.add(words[0])
    assert {"regexp", "save_env", "linux", "initrd", "reboot", "["} <= found
    return found - own


def test_a_package_without_its_signed_file_is_named(
    packages: Path, arch: Arch, host_tools: HostTools, tmp_path: Path
) -> None:
    source = grub.SIGNED[arch][1].source
    (packages / source).unlink()
    with pytest.raises(ImageError, match=re.escape(f"the boot packages hold no {source}")):
        grub.write_loader(packages, arch, b"", host_tools, tmp_path / "loader")
