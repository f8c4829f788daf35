"""An ISO image that starts the system from memory and installs it: as a CD, or written to a stick.

It holds a slot's files once, in ``kubesolo/``, with the document that makes the disk image of them
(product.disk.pieces). BIOS starts GRUB by El Torito or by the MBR, UEFI starts shim and the signed
GRUB from a FAT file system behind the ISO's own. GRUB and early boot find the medium by the
volume's identifier, its date of modification, which is derived from the image's digest.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from pathlib import Path
from typing import NamedTuple

from product.disk.pieces import DOCUMENT_NAME, REST_NAME
from product.image.build import Builder, Image
from product.image.disk import Identifiers
from product.image.errors import ImageError
from product.image.grub import CONFIG_FOLDER, MODULES, SIGNED
from product.image.media.pieces_of import split
from product.image.packages import fetch, unpack_all
from product.image.recipe import Arch
from product.image.tools import HostTools

LABEL, FOLDER = "KSOLOISO", "kubesolo"
_BIOS = "i386-pc"
_BIOS_FORMAT = "i386-pc-eltorito"
_BIOS_MODULES = (
    *MODULES, "serial", "biosdisk", "iso9660", "search_fs_uuid", "search_fs_file",
)  # fmt: skip
_ELTORITO, _HYBRID_MBR = "boot/eltorito.img", "boot_hybrid.img"
_MIB = 1 << 20
# FAT16 has at least 4085 clusters of 2 KiB here; the loaders take a good part of it.
_EFI_MIB = 16
# 2020-01-01, and about eight years of seconds that tell volumes apart.
_FIRST_SECOND, _SECONDS = 1577836800, 1 << 28


class Appended(NamedTuple):
    """A partition behind the ISO file system: its content, and its type's GUID."""

    content: Path
    type: str


def build_iso(builder: Builder, image: Image, target: Path) -> None:
    """Write the ISO image of ``image``, which is the builder's. Raises ImageError, OSError."""
    write_iso(builder, image, target)


def write_iso(
    builder: Builder, image: Image, target: Path, appended: tuple[Appended, ...] = ()
) -> None:
    """The same, with more partitions behind it. Raises ImageError, OSError."""
    volume = volume_id(image.digest)
    with builder.cache.scratch(f"iso-{builder.arch}") as work:
        packages = work / "packages"
        unpack_all(list(fetch(builder.lock.group("boot"), builder.cache).values()), packages)
        tree = work / "tree"
        config = _config(builder, volume)
        _fill(image, config, work, tree)
        if builder.arch is Arch.X86_64:
            _eltorito(packages, builder.tools, tree / _ELTORITO)
        efi = _efi(packages, builder, config, Identifiers(image.digest), work)
        _set_times(tree, builder.recipe.source_date)
        partial = work / "iso"
        mbr = packages / "usr/lib/grub" / _BIOS / _HYBRID_MBR
        _xorriso(builder, image, tree, mbr, (Appended(efi, "0xef"), *appended), partial)
        shutil.move(partial, target)


def volume_id(digest: str) -> str:
    """The volume's date of modification, YYYYMMDDhhmmsscc, as GRUB and blkid part it by hyphens."""
    number = int.from_bytes(hashlib.sha256(digest.encode()).digest()[:8])
    moment = time.gmtime(_FIRST_SECOND + number % _SECONDS)
    return time.strftime("%Y-%m-%d-%H-%M-%S", moment) + f"-{(number >> 32) % 100:02d}"


def _config(builder: Builder, volume: str) -> bytes:
    text = (builder.recipe.folder / "boot/medium.cfg").read_text()
    return text.replace("@VOLUME@", volume).encode()


def _fill(image: Image, config: bytes, work: Path, tree: Path) -> None:
    folder = tree / FOLDER
    folder.mkdir(parents=True)
    files = {path.name: path for path in sorted(image.slot.folder.iterdir())}
    for name, path in files.items():
        shutil.copyfile(path, folder / name)
    document = split(image.disk, files, folder / REST_NAME)
    if document.sha256 != image.sha256:
        raise ImageError(
            f"{image.disk} has changed since it was built: its SHA-256 is {document.sha256}",
            hint="remove it from the cache, and build it again",
        )
    (folder / DOCUMENT_NAME).write_bytes(document.to_bytes())
    # GRUB reads it here where firmware shows it the whole CD, else from the EFI file system.
    place = tree / CONFIG_FOLDER
    place.mkdir(parents=True)
    (place / "grub.cfg").write_bytes(config)


def _eltorito(packages: Path, tools: HostTools, target: Path) -> None:
    folder = packages / "usr/lib/grub" / _BIOS
    target.parent.mkdir(parents=True)
    tools.run(
        "grub-mkimage", "-O", _BIOS_FORMAT, "-d", folder, "-p", f"/{CONFIG_FOLDER}",
        "-o", target, *_BIOS_MODULES,
    )  # fmt: skip


def _efi(
    packages: Path, builder: Builder, config: bytes, identifiers: Identifiers, work: Path
) -> Path:
    """The FAT file system that UEFI starts from."""
    image, environment = work / "efi", {"SOURCE_DATE_EPOCH": str(builder.recipe.source_date)}
    tools = builder.tools
    with image.open("wb") as stream:
        stream.truncate(_EFI_MIB * _MIB)
    tools.run(
        "mkfs.fat", "-n", "KSOLOBOOT", "-i", identifiers.guid("fat medium")[:8], "--invariant",
        image, environment=environment,
    )  # fmt: skip
    source = work / "grub.cfg"
    source.write_bytes(config)
    for folder in ("EFI", "EFI/BOOT", "EFI/debian"):
        tools.run("mmd", "-i", image, f"::{folder}", environment=environment)
    copies = [(packages / one.source, one.target) for one in SIGNED[builder.arch]]
    for path, name in (*copies, (source, f"{CONFIG_FOLDER}/grub.cfg")):
        tools.run("mcopy", "-i", image, path, f"::{name}", environment=environment)
    return image


def _set_times(tree: Path, source_date: int) -> None:
    for path in (tree, *tree.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (source_date, source_date))


def _xorriso(
    builder: Builder,
    image: Image,
    tree: Path,
    mbr: Path,
    partitions: tuple[Appended, ...],
    target: Path,
) -> None:
    guid = Identifiers(image.digest).guid("iso").lower()
    arguments: list[str | Path] = [
        "-as", "mkisofs", "-quiet", "-r", "-V", LABEL, "-o", target,
        "--modification-date=" + volume_id(image.digest).replace("-", ""),
        "--gpt_disk_guid", guid, "-partition_offset", "0",
    ]  # fmt: skip
    if builder.arch is Arch.X86_64:
        arguments += [
            "-b", _ELTORITO, "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table",
            "--grub2-boot-info", "--grub2-mbr", mbr, "-eltorito-alt-boot",
        ]  # fmt: skip
    for number, part in enumerate(partitions, 2):
        arguments += ["-append_partition", str(number), part.type, part.content]
    arguments += [
        "-appended_part_as_gpt", "-e", "--interval:appended_partition_2:all::", "-no-emul-boot",
        tree,
    ]  # fmt: skip
    environment = {"SOURCE_DATE_EPOCH": str(builder.recipe.source_date), "TZ": "UTC"}
    builder.tools.run("xorriso", *arguments, environment=environment)
