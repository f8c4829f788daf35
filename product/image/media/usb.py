"""The air-gap stick: the ISO image, and behind it a partition with releases for nodes.

The partition is what product.release.stick makes (see product.image.update_volume), so that an
installed node takes releases from the same stick. Container images are archives in its folder
``images``.
"""

from __future__ import annotations

import tempfile
from contextlib import nullcontext
from pathlib import Path

from product.image.build import Builder, Image
from product.image.errors import ImageError
from product.image.media.iso import Appended, write_iso
from product.image.update_volume import volume_size, write_volume
from product.release.stick import served_files
from product.release.storage import exclusive

IMAGES_FOLDER = "images"


def build_usb(
    builder: Builder, image: Image, target: Path, *, repository: Path | None, images: Path | None
) -> None:
    """Write the stick as a raw image: releases of ``repository``, archives of ``images``.

    Raises RepositoryError where the repository does not verify; ImageError for what holds no
    archive or does not fit FAT32; OSError.
    """
    with exclusive(repository) if repository is not None else nullcontext():
        releases = served_files(repository) if repository is not None else {}
        files = {**releases, **_of_images(images)}
        with tempfile.TemporaryDirectory(prefix=".usb-", dir=target.absolute().parent) as folder:
            content = Path(folder) / "fat"
            with content.open("wb") as stream:
                stream.truncate(volume_size(files))
            write_volume(content, files, builder.tools)
            write_iso(builder, image, target, (Appended(content, "0x0c"),))


def _of_images(images: Path | None) -> dict[str, Path]:
    if images is None:
        return {}
    found = {f"{IMAGES_FOLDER}/{path.name}": path for path in sorted(images.glob("*.tar*"))}
    if not found:
        raise ImageError(
            f"{images} holds no container images", hint="put archives there, such as NAME.tar"
        )
    return found
