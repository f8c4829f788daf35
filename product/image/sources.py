"""What ``flash`` writes: a disk image, compressed or not, or an installation medium as it is."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from product.image.errors import ImageError, ToolError
from product.image.inject import Places
from product.image.tools import HostTools

# ECMA-119: the primary volume descriptor is the seventeenth block of 2048 bytes; the volume's name
# is in its bytes 40 to 71.
_DESCRIPTOR, _NAME = 16 * 2048, slice(40, 72)
_ISO_MAGIC = b"\x01CD001"
_SECTOR_MAGIC = b"\x55\xaa"
_OURS = b"KSOLO"
# What a compressed file begins with, and the program that unpacks it.
_ZSTD = b"\x28\xb5\x2f\xfd"
_FOREIGN = ((b"\x1f\x8b", "gunzip"), (b"\xfd7zXZ", "unxz"), (b"BZh", "bunzip2"), (b"PK", "unzip"))
_HYPERVISORS = (b"QFI\xfb", b"KDMV", b"vhdxfile")


class Medium(NamedTuple):
    """An installation medium: it is written byte for byte, and holds nothing of one machine."""

    size: int


def look_at(image: Path) -> Places | Medium:
    """What ``image`` is. Raises ImageError for what no disk shall get."""
    try:
        with image.open("rb") as stream:
            head = stream.read(512)
            stream.seek(_DESCRIPTOR)
            descriptor = stream.read(2048)
    except OSError:
        return Places(image)  # It says what is wrong.
    for magic, program in _FOREIGN:
        if head.startswith(magic):
            raise ImageError(f"{image} is compressed", hint=f"unpack it first: {program}")
    if head.startswith(_HYPERVISORS):
        raise ImageError(
            f"{image} is the disk of a hypervisor, not of a machine",
            hint="write the disk image: ./noxw -s media -- --kind disk",
        )
    if not descriptor.startswith(_ISO_MAGIC):
        return Places(image)
    name = descriptor[_NAME].rstrip(b" \0")
    if not name.startswith(_OURS):
        raise ImageError(
            f"{image} is an ISO image of something else, by its name "
            f"{name.decode('ascii', 'replace')!r}",
            hint="build one: ./noxw -s media -- --kind iso",
        )
    if head[510:] != _SECTOR_MAGIC:
        raise ImageError(
            f"{image} is an ISO image that no machine starts from a disk: it has no boot sector",
            hint="build one: ./noxw -s media -- --kind iso",
        )
    return Medium(image.stat().st_size)


def plain(image: Path) -> ImageError:
    """What to say where an installation medium shall get configuration or releases."""
    return ImageError(
        f"{image} is an installation medium, which takes nothing of one machine with it",
        hint="put user-data on a second medium labelled cidata, or write the disk image itself: "
        "./noxw -s media -- --kind disk",
    )


def is_compressed(image: Path) -> bool:
    """Whether ``unpacked`` has something to do."""
    try:
        with image.open("rb") as stream:
            return stream.read(len(_ZSTD)) == _ZSTD
    except OSError:
        return False


def unpacked(image: Path, tools: HostTools, work: Path) -> Path:
    """The image, unpacked into ``work`` if it is compressed with zstd. Raises ImageError."""
    if not is_compressed(image):
        return image
    target = work / "unpacked.img"
    try:
        tools.run("zstd", "-q", "-d", "--sparse", image, "-o", target)
    except ToolError as error:
        raise ImageError(
            f"{image} cannot be unpacked: {error.message}", hint="was it copied to its end?"
        ) from None
    return target
