"""Which media there are, what their files are called, and how each is built from a disk image."""

from __future__ import annotations

import contextlib
import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import ModuleType

from product.image import progress, sparse
from product.image.build import Builder, Image
from product.image.cache import digest_of, file_sha256, tree_digest
from product.image.disk import Identifiers
from product.image.errors import ImageError
from product.image.inject import Places, esp_with, require_repository
from product.image.media.convert import FORMATS, convert
from product.image.media.oci import write_image
from product.image.recipe import Arch

DISK_BYTES = 8 << 30
_SIZE = re.compile(r"(?P<number>\d{1,9})(?P<unit>[MGT])(?:i?B)?", re.IGNORECASE)
_UNITS = {"M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
# No part of a file's name: what nearly every machine has.
_USUAL_HARDWARE = "generic"
# Nine tenths of a disk are zeros and the rest is compressed already: more effort gains nothing.
_ZSTD = ("-q", "-T2", "-6")


class Kind(StrEnum):
    """A medium."""

    DISK = "disk"
    ISO = "iso"
    USB = "usb"
    OCI = "oci"
    QCOW2 = "qcow2"
    VMDK = "vmdk"
    VHDX = "vhdx"

    @property
    def suffix(self) -> str:
        """What its file's name ends in, after a dot."""
        return {"disk": "img.zst", "usb": "usb.img", "oci": "oci.tar"}.get(self.value, self.value)

    @property
    def is_disk(self) -> bool:
        """Whether it holds the disk itself, into which configuration can be put."""
        return self is Kind.DISK or self.value in FORMATS


@dataclass(frozen=True, slots=True)
class MediaOptions:
    """What a medium holds beside the image.

    ``files`` is a seed by names, as ``user-data``, for the kinds that hold a disk; ``disk_size`` is
    in bytes, for the disks of hypervisors; ``repository`` and ``images`` are for a USB stick;
    ``channel`` is said in the annotations of an OCI image.
    """

    files: Mapping[str, bytes] = field(default_factory=dict)
    disk_size: int = DISK_BYTES
    repository: Path | None = None
    images: Path | None = None
    channel: str | None = None


@dataclass(frozen=True, slots=True)
class Medium:
    """A built medium; ``size`` is in bytes, ``sha256`` that of its file."""

    kind: Kind
    path: Path
    size: int
    sha256: str

    @property
    def sum_path(self) -> Path:
        """The file beside it that ``sha256sum -c`` reads."""
        return self.path.with_name(f"{self.path.name}.sha256")


def file_name(kind: Kind, version: str, arch: Arch, hardware: str | None) -> str:
    """The name of a medium's file; ``hardware`` is the recipe's, whatever it is."""
    more = f"-{hardware}" if hardware and hardware != _USUAL_HARDWARE else ""
    return f"kubesolo-os-{version}-{arch.value}{more}.{kind.suffix}"


def parse_size(text: str) -> int:
    """Bytes of ``8G``, ``500M``, ``1T``; units are powers of 1024. Raises ImageError."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ImageError(f"{text!r} is no size of a disk", hint="write it like 8G or 20480M")
    return int(found["number"]) * _UNITS[found["unit"].upper()]


def build(
    kind: Kind, builder: Builder, version: str, target: Path, *, options: MediaOptions | None = None
) -> Medium:
    """Build a medium as the file ``target``, or in that folder under its own name.

    ``.sha256`` is written beside it. It is taken from the cache if that has it; one that holds
    configuration never lies there, and nobody else can read it. Raises ImageError, OSError.
    """
    wanted = options or MediaOptions()
    check(kind, wanted)
    image = builder.image(version)
    name = file_name(kind, version, builder.arch, builder.recipe.hardware)
    path = target / name if target.is_dir() else target
    if wanted.files:
        with builder.cache.scratch(f"medium-{kind}-{builder.arch}") as work:
            made = write(kind, builder, _configured(builder, image, wanted, work), work, wanted)
            _place(made, path, private=True)
        return described(kind, path, file_sha256(path))
    # The image's digest names the code that builds, too.
    key = digest_of(
        image.digest, name, kind,
        wanted.disk_size if kind.value in FORMATS else 0,
        wanted.channel if kind is Kind.OCI else None,
        [_folder_digest(path) for path in (wanted.repository, wanted.images)],
    )  # fmt: skip

    def make(tree: Path) -> None:
        with progress.step(f"write {name}"):
            write(kind, builder, image, tree, wanted)
            (tree / "sha256").write_text(file_sha256(tree / name))

    tree = builder.cache.tree(f"medium-{kind}-{builder.arch}", key, make)
    _place(tree / name, path, private=False)
    return described(kind, path, (tree / "sha256").read_text())


def check(kind: Kind, options: MediaOptions) -> None:
    """Raise ImageError for options that the kind cannot follow."""
    if options.files and not kind.is_disk:
        ways = {
            Kind.ISO: "put user-data on a second medium labelled cidata: the node takes it at its "
            "first boot, as docs/deploy.md says",
            Kind.USB: "put user-data on a second medium labelled cidata, or write the disk itself: "
            "kubesolo-image flash --config",
            Kind.OCI: "everybody gets the same one; give --config to from-oci's disk: "
            "kubesolo-image flash --config",
        }
        raise ImageError(f"{kind} holds no configuration of one machine", hint=ways[kind])
    if kind is not Kind.USB and (options.repository or options.images):
        raise ImageError(
            f"{kind} takes no releases or container images with it", hint="only usb does"
        )
    if options.repository is not None:
        require_repository(options.repository)


def _configured(builder: Builder, image: Image, options: MediaOptions, work: Path) -> Image:
    """A copy of the image, in ``work``, with configuration in it."""
    places = Places(image.disk)
    esp = esp_with(image.disk, places, options.files, None, builder.tools, work)
    disk = work / "disk.img"
    sparse.copy(image.disk, disk)
    disk.chmod(0o600)
    begin, _ = places.esp
    with esp.open("rb") as reader, disk.open("r+b") as writer:
        writer.seek(begin)
        while block := reader.read(1 << 20):
            writer.write(block)
    files = {name: data.hex() for name, data in options.files.items()}
    return Image(disk, image.slot, digest_of(image.digest, files))


def write(kind: Kind, builder: Builder, image: Image, folder: Path, options: MediaOptions) -> Path:
    """Write a medium of ``image``, which is the builder's, into ``folder``; the cache has no part.

    Raises ImageError, OSError.
    """
    target = folder / file_name(kind, image.slot.version, builder.arch, builder.recipe.hardware)
    match kind:
        case Kind.DISK:
            builder.tools.run("zstd", *_ZSTD, image.disk, "-o", target)
        case Kind.ISO:
            _other("iso").build_iso(builder, image, target)
        case Kind.USB:
            repository, images = options.repository, options.images
            _other("usb").build_usb(builder, image, target, repository=repository, images=images)
        case Kind.OCI:
            write_image(builder, image, target, channel=options.channel)
        case _:
            convert(
                image.disk, FORMATS[kind.value], options.disk_size, Identifiers(image.digest),
                builder.tools, target,
            )  # fmt: skip
    return target


def _other(name: str) -> ModuleType:
    """A module of this package that is loaded when it is needed. Raises ImageError."""
    try:
        return importlib.import_module(f"product.image.media.{name}")
    except ModuleNotFoundError:
        raise ImageError(f"this version of the project builds no {name}") from None


def _place(source: Path, target: Path, *, private: bool) -> None:
    """Copy a medium to where it is wanted: it appears there when it is whole, with its sum."""
    partial = target.with_name(f"{target.name}.part")
    try:
        partial.touch(0o600)
        sparse.copy(source, partial)
        partial.chmod(0o600 if private else 0o644)
        partial.replace(target)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def described(kind: Kind, path: Path, sha256: str) -> Medium:
    """A medium that lies at ``path``; writes the file of its sum beside it."""
    medium = Medium(kind, path, path.stat().st_size, sha256)
    medium.sum_path.write_text(f"{sha256}  {path.name}\n")
    return medium


def _folder_digest(path: Path | None) -> str | None:
    return None if path is None else tree_digest(path)
