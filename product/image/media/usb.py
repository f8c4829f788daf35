"""The air-gap stick: the ISO image, and behind it a partition with releases for nodes.

The partition is FAT32 labelled KSOLOUPD, as product.release.stick lays it out, so that an installed
node takes releases from the same stick. Container images are archives in its folder ``images``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from product.disk.labels import UPDATE_LABEL
from product.image.build import Builder, Image
from product.image.errors import ImageError
from product.image.inject import require_repository
from product.image.media.iso import Appended, write_iso

IMAGES_FOLDER = "images"
_MIB = 1 << 20
# FAT32 has at least 65525 clusters.
_LEAST = 48 * _MIB
_LONGEST = (1 << 32) - 1
_SERIAL = "c501a0bd"
# The first day that a FAT file system can name.
_ENVIRONMENT = {"SOURCE_DATE_EPOCH": "315532800"}
# What nodes do not read of a repository is the publisher's own.
_FOLDERS = ("metadata", "targets", "artifacts")


def build_usb(
    builder: Builder, image: Image, target: Path, *, repository: Path | None, images: Path | None
) -> None:
    """Write the stick as a raw image: releases of ``repository``, archives of ``images``.

    Raises ImageError for what is no repository, holds no archive, or does not fit FAT32; OSError.
    """
    if repository is not None:
        require_repository(repository)
    files = {**_of_repository(repository), **_of_images(images)}
    for name, path in files.items():
        if path.stat().st_size > _LONGEST:
            raise ImageError(
                f"{path} has 4 GiB or more, which FAT32 cannot hold as {name}",
                hint="take the file apart, or leave it out",
            )
    with tempfile.TemporaryDirectory(prefix=".usb-", dir=target.absolute().parent) as folder:
        content = Path(folder) / "fat"
        _fat(builder, files, content)
        write_iso(builder, image, target, (Appended(content, "0x0c"),))


def _of_repository(repository: Path | None) -> dict[str, Path]:
    if repository is None:
        return {}
    return {
        path.relative_to(repository).as_posix(): path
        for name in _FOLDERS
        for path in sorted((repository / name).rglob("*"))
        if path.is_file()
    }


def _of_images(images: Path | None) -> dict[str, Path]:
    if images is None:
        return {}
    found = {f"{IMAGES_FOLDER}/{path.name}": path for path in sorted(images.glob("*.tar*"))}
    if not found:
        raise ImageError(
            f"{images} holds no container images", hint="put archives there, such as NAME.tar"
        )
    return found


def _fat(builder: Builder, files: dict[str, Path], target: Path) -> None:
    tools = builder.tools
    content = sum(-(-path.stat().st_size // 4096) * 4096 for path in files.values())
    size = max(content * 103 // 100 + 4 * _MIB, _LEAST)
    with target.open("wb") as stream:
        stream.truncate(-(-size // _MIB) * _MIB)
    tools.run(
        "mkfs.fat", "-F", "32", "-n", UPDATE_LABEL, "-i", _SERIAL, "--invariant", target,
        environment=_ENVIRONMENT,
    )  # fmt: skip
    folders = {parent.as_posix() for name in files for parent in Path(name).parents} - {"."}
    for folder in sorted(folders):
        tools.run("mmd", "-i", target, f"::{folder}", environment=_ENVIRONMENT)
    for name, path in sorted(files.items()):
        tools.run("mcopy", "-i", target, path, f"::{name}", environment=_ENVIRONMENT)
