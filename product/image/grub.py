"""The boot loader's files on the EFI system partition, and the core image for BIOS.

UEFI starts the shim that Microsoft signed, which starts the GRUB that Debian signed, with Secure
Boot on or off. BIOS starts a core image linked here. All read ``EFI/debian/grub.cfg``, the folder
that is built into the signed GRUB, on the disk that they were loaded from, never by label: a second
disk with the same labels cannot hijack a boot. The environment block lies outside of ``EFI``, so
that the boot loader can be replaced without it.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

from product.disk.loader import (
    ACTIVE,
    BIOS_BOOT,
    BIOS_CORE,
    BOARD,
    RECORD,
    SPARE,
    describe,
    spare_name,
)
from product.image.errors import ImageError
from product.image.recipe import Arch
from product.image.tools import HostTools

ENVIRONMENT_SIZE = 1024
_HEADER = b"# GRUB Environment Block\n"
# The factory's state: slot A, confirmed. The layout is the boot contract's.
FACTORY = {"active_slot": "A", "boot_counter": "3", "boot_success": "1"}

CONFIG_FOLDER = "EFI/debian"
ENVIRONMENT = "boot/grub/grubenv"

# What grub.cfg needs; a signed GRUB has all of it built in.
MODULES = (
    "part_gpt", "fat", "ext2", "normal", "configfile", "loadenv", "echo", "test", "regexp",
    "reboot", "halt", "sleep", "linux", "search", "search_label", "probe", "ls", "cat", "true",
    "minicmd", "gzio", "terminal", "smbios", "password_pbkdf2",
)  # fmt: skip
_BIOS_MODULES = (*MODULES, "serial", "biosdisk")
_BIOS = "i386-pc"


class Copied(NamedTuple):
    """A file of the boot packages, and where it goes on the EFI system partition."""

    source: str
    target: str


def _signed(suffix: str, grub: str) -> tuple[Copied, ...]:
    """Shim, GRUB and MokManager, with which an owner enrols keys. No fallback (``fb*.efi``): that
    writes an entry of its own into the firmware's list and restarts the machine.
    """
    return (
        Copied(f"usr/lib/shim/shim{suffix}.efi.signed", f"EFI/BOOT/BOOT{suffix.upper()}.EFI"),
        Copied(f"usr/lib/grub/{grub}/grub{suffix}.efi.signed", f"EFI/BOOT/grub{suffix}.efi"),
        Copied(f"usr/lib/shim/mm{suffix}.efi.signed", f"EFI/BOOT/mm{suffix}.efi"),
    )


SIGNED = {
    Arch.X86_64: _signed("x64", "x86_64-efi-signed"),
    Arch.AARCH64: _signed("aa64", "arm64-efi-signed"),
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


def core_image(packages: Path, tools: HostTools, target: Path) -> None:
    """Link GRUB's modules into a core image for BIOS; ``packages`` are the unpacked boot packages.

    Raises ImageError where they hold no such GRUB.
    """
    folder = packages / "usr/lib/grub" / _BIOS
    if not folder.is_dir():
        raise ImageError(f"the boot packages hold no GRUB for {_BIOS}")
    absent = [name for name in _BIOS_MODULES if not (folder / f"{name}.mod").exists()]
    if absent:
        raise ImageError(f"GRUB for {_BIOS} lacks the modules {sorted(absent)}")
    tools.run(
        "grub-mkimage", "-O", _BIOS, "-d", folder, "-p", f"(,gpt1)/{CONFIG_FOLDER}",
        "-o", target, *_BIOS_MODULES,
    )  # fmt: skip


def write_loader(
    packages: Path, arch: Arch, config: bytes, tools: HostTools, target: Path,
    *, own: bytes | None = None,
) -> None:  # fmt: skip
    """Make the boot loader's folder (see product.disk.loader) in ``target``, without its record.

    With ``own`` that program is what UEFI starts, in place of shim and Debian's signed GRUB.
    Raises ImageError where ``packages``, the unpacked boot packages, lack a file.
    """
    folder = target / CONFIG_FOLDER
    folder.mkdir(parents=True)
    (folder / "grub.cfg").write_bytes(config)
    copies = SIGNED[arch]
    if own is not None:
        first = target / copies[0].target
        first.parent.mkdir(parents=True)
        first.write_bytes(own)
        copies = ()
    if arch is Arch.X86_64:
        copies = (*copies, Copied(f"usr/lib/grub/{_BIOS}/boot.img", BIOS_BOOT))
    for source, name in copies:
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(packages / source, path)
        except FileNotFoundError:
            raise ImageError(
                f"the boot packages hold no {source}",
                hint=f"packages.{arch}.boot names shim-signed, its helpers and the signed GRUB",
            ) from None
    if arch is Arch.X86_64:
        core_image(packages, tools, target / BIOS_CORE)


def write_esp(loader: Path, version: str, esp: Path) -> None:
    """Fill the folder of the EFI system partition: ``loader`` as ``version`` brings it."""
    # Both at the top, and first: the node lets them change places by a write of their one sector.
    shutil.copytree(loader / ACTIVE, esp / ACTIVE)
    (esp / SPARE).mkdir()
    # So do these of a board's firmware.
    if (loader / BOARD).is_dir():
        for path in sorted((loader / BOARD).iterdir()):
            shutil.copyfile(path, esp / path.name)
            (esp / spare_name(path.name)).touch()
    (esp / RECORD).write_bytes(describe(str(loader), version).to_bytes())
    environment = esp / ENVIRONMENT
    environment.parent.mkdir(parents=True)
    environment.write_bytes(environment_block(FACTORY))
    # For GRUB to mark the disk of a first boot; removed by that boot.
    environment.with_name("fresh").write_bytes(environment_block({"booted": "0"}))
