"""GRUB's images and its folder on the EFI system partition.

The core image finds its configuration on the disk that it was loaded from, never by label: a
second disk with the same labels cannot hijack a boot.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from product.image.errors import ImageError
from product.image.recipe import Arch, Recipe
from product.image.tools import HostTools

ENVIRONMENT_SIZE = 1024
_HEADER = b"# GRUB Environment Block\n"
# The factory's state: slot A, confirmed. The layout is the boot contract's.
FACTORY = {"active_slot": "A", "boot_counter": "3", "boot_success": "1"}

_COMMON = (
    "part_gpt", "fat", "ext2", "normal", "configfile", "loadenv", "echo", "test", "regexp",
    "reboot", "halt", "sleep", "linux", "search", "search_label", "probe", "ls", "cat", "true",
    "minicmd", "gzio", "terminal",
)  # fmt: skip
_SERIAL = ("serial",)


class Platform(NamedTuple):
    """One way to start GRUB: its module folder, the modules, and where an EFI image goes."""

    name: str
    modules: tuple[str, ...]
    efi_path: str | None


PLATFORMS: dict[Arch, tuple[Platform, ...]] = {
    Arch.X86_64: (
        Platform("x86_64-efi", (*_COMMON, *_SERIAL), "EFI/BOOT/BOOTX64.EFI"),
        Platform("i386-pc", (*_COMMON, *_SERIAL, "biosdisk"), None),
    ),
    Arch.AARCH64: (Platform("arm64-efi", _COMMON, "EFI/BOOT/BOOTAA64.EFI"),),
}


def environment_block(variables: dict[str, str], *, atomic: bool = True) -> bytes:
    """An environment block of 1024 bytes, which GRUB reads, and writes if it shall.

    Raises ImageError unless all fits it, or the first sector where writing must be ``atomic``.
    """
    text = b"".join(f"{name}={_escape(value)}\n".encode() for name, value in variables.items())
    limit = 512 if atomic else ENVIRONMENT_SIZE
    if len(_HEADER) + len(text) > limit:
        raise ImageError(
            f"{', '.join(variables)} take {len(text)} bytes, a boot environment has "
            f"{limit - len(_HEADER)} for them"
        )
    return (_HEADER + text).ljust(ENVIRONMENT_SIZE, b"#")


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\\n")


def core_image(platform: Platform, modules: Path, tools: HostTools, target: Path) -> None:
    """Link the modules into a core image; ``modules`` is the unpacked ``usr/lib/grub``."""
    folder = modules / platform.name
    if not folder.is_dir():
        raise ImageError(f"the boot packages hold no GRUB for {platform.name}")
    names = [name for name in platform.modules if (folder / f"{name}.mod").exists()]
    absent = set(platform.modules) - set(names)
    if absent:
        raise ImageError(f"GRUB for {platform.name} lacks the modules {sorted(absent)}")
    tools.run(
        "grub-mkimage", "-O", platform.name, "-d", folder, "-p", "(,gpt1)/boot/grub",
        "-o", target, *names,
    )  # fmt: skip


def write_esp(
    recipe: Recipe, lock_modules: Path, arch: Arch, config: bytes, tools: HostTools, esp: Path
) -> Path | None:
    """Fill the folder of the EFI system partition; returns the BIOS core image, if any."""
    grub = esp / "boot/grub"
    grub.mkdir(parents=True)
    (grub / "grub.cfg").write_bytes(config)
    (grub / "grubenv").write_bytes(environment_block(FACTORY))
    # For GRUB to mark the disk of a first boot; removed by that boot.
    (grub / "fresh").write_bytes(environment_block({"booted": "0"}))
    bios: Path | None = None
    for platform in PLATFORMS[arch]:
        if platform.efi_path is not None:
            target = esp / platform.efi_path
            target.parent.mkdir(parents=True, exist_ok=True)
            core_image(platform, lock_modules, tools, target)
        else:
            bios = esp.parent / "core.img"
            core_image(platform, lock_modules, tools, bios)
    return bios
