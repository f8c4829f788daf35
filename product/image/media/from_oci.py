"""The disk image out of an OCI image: every blob, every range and the whole by SHA-256.

It reads image layouts, a tar or a folder, as ``kubesolo-image media``, ``skopeo`` and ``oras``
write them; layers may have been compressed on their way.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import re
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from product.disk.errors import DiskError
from product.disk.pieces import DOCUMENT_NAME, join, parse
from product.image.cache import file_sha256
from product.image.errors import ImageError, ToolError
from product.image.media.oci import FOLDER, INDEX, MANIFEST, PLATFORMS, SBOM_NAME
from product.image.recipe import Arch
from product.image.tools import HostTools

_DIGEST = re.compile(r"sha256:(?P<hex>[0-9a-f]{64})")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# Registries take manifests of 4 MiB at most.
_MOST_JSON = 4 << 20
# No file of this system is as large: what a broken or hostile layer unpacks to ends here.
_MOST_FILE = 4 << 30
_BLOCK = 1 << 20
_DOCKER = "application/vnd.docker.distribution.manifest."
_HINT = "make one with kubesolo-image media --kind oci, or fetch it again"


def disk_from(source: Path, arch: Arch, tools: HostTools, work: Path, output: Path) -> str:
    """Write the disk image that ``source`` holds for ``arch`` as ``output``; returns its SHA-256.

    ``output`` appears when it is whole. ``work`` is an empty folder for the files of the image.
    Raises ImageError for what is no image of this system, or damaged; OSError.
    """
    with _opened(source) as layout:
        manifest = layout.manifest(arch)
        for number, layer in enumerate(manifest["layers"]):
            _unpack(layout, layer, tools, work / f"layer-{number}", work)
    partial = output.with_name(f"{output.name}.part")
    try:
        document = parse((work / DOCUMENT_NAME).read_bytes(), f"{DOCUMENT_NAME} of {source}")
        with partial.open("wb") as stream:
            join(document, lambda name: _file(work, name), stream.fileno())
        if (found := file_sha256(partial)) != document.sha256:
            raise ImageError(
                f"{source} does not give its disk: that has the SHA-256 {found}, not "
                f"{document.sha256}",
                hint=_HINT,
            )
        partial.replace(output)
    except FileNotFoundError:
        raise ImageError(
            f"{source} is no image of this system: it has no /{FOLDER}/{DOCUMENT_NAME}", hint=_HINT
        ) from None
    except DiskError as error:
        raise ImageError(
            f"{source} does not give its disk: {error.message}", hint=error.hint or _HINT
        ) from None
    finally:
        partial.unlink(missing_ok=True)
    return document.sha256


def _file(work: Path, name: str) -> int:
    if not _NAME.fullmatch(name) or name == SBOM_NAME or not (work / name).is_file():
        raise ImageError(
            f"the image has no file /{FOLDER}/{name}, which its disk needs", hint=_HINT
        )
    return os.open(work / name, os.O_RDONLY | os.O_CLOEXEC)


class _Layout:
    """An image layout; ``open`` gives a blob as a file."""

    def __init__(self, source: Path, archive: tarfile.TarFile | None) -> None:
        self._source = source
        self._archive = archive

    def manifest(self, arch: Arch) -> dict[str, Any]:
        """The image's manifest for ``arch``. Raises ImageError."""
        found: list[dict[str, Any]] = []
        others: list[str] = []
        self._look(self._json_of(self._bytes("index.json")), arch, found, others, 0)
        if len(found) != 1:
            has = f"images for {', '.join(sorted(set(others)))}" if others else "no image"
            raise ImageError(
                f"{self._source} has {len(found) or 'no'} images for {PLATFORMS[arch]}; "
                f"it has {has}",
                hint="--arch names another architecture; a layout must hold one version",
            )
        manifest = self._json_of(self.blob_bytes(found[0]))
        layers = manifest.get("layers")
        if not isinstance(layers, list):
            raise self._damaged("its manifest has no layers")
        return manifest

    def _look(
        self, index: dict[str, Any], arch: Arch, found: list[dict[str, Any]], others: list[str],
        depth: int,
    ) -> None:  # fmt: skip
        """Gather manifests; an index may name an index."""
        rows = index.get("manifests")
        if not isinstance(rows, list) or depth > 2:
            raise self._damaged("it has no list of images")
        for row in rows:
            if not isinstance(row, dict):
                raise self._damaged("its list of images is none")
            if row.get("mediaType") == INDEX or str(row.get("mediaType")).startswith(
                f"{_DOCKER}list."
            ):
                self._look(self._json_of(self.blob_bytes(row)), arch, found, others, depth + 1)
                continue
            architecture = self._architecture(row)
            others.append(architecture)
            if architecture == PLATFORMS[arch] and row not in found:
                found.append(row)

    def _architecture(self, row: dict[str, Any]) -> str:
        """Go's name: what the row says, or else the image's configuration."""
        platform = row.get("platform")
        if not isinstance(platform, dict):
            manifest = self._json_of(self.blob_bytes(row))
            if manifest.get("mediaType", MANIFEST) != MANIFEST and not str(
                manifest.get("mediaType")
            ).startswith(_DOCKER):
                raise self._damaged("it holds something that is no image")
            config = manifest.get("config")
            platform = self._json_of(self.blob_bytes(config if isinstance(config, dict) else {}))
        return str(platform.get("architecture"))

    def blob_bytes(self, row: dict[str, Any]) -> bytes:
        """A small blob, its digest verified."""
        with self.open(row) as stream:
            data = stream.read(_MOST_JSON + 1)
        if len(data) > _MOST_JSON:
            raise self._damaged(f"{row.get('digest')} is too large for what it is")
        if hashlib.sha256(data).hexdigest() != self.digest(row):
            raise self._damaged(f"{row.get('digest')} has another content than its name says")
        return data

    def digest(self, row: dict[str, Any]) -> str:
        """64 hex digits."""
        found = _DIGEST.fullmatch(str(row.get("digest")))
        if found is None:
            raise self._damaged(f"{row.get('digest')!r} is no digest")
        return found["hex"]

    def open(self, row: dict[str, Any]) -> IO[bytes]:
        """A blob as a file that can seek; the caller verifies it."""
        return self._open(f"blobs/sha256/{self.digest(row)}")

    def _bytes(self, name: str) -> bytes:
        with self._open(name) as stream:
            return stream.read(_MOST_JSON)

    def _open(self, name: str) -> IO[bytes]:
        try:
            if self._archive is None:
                return (self._source / name).open("rb")
            opened = self._archive.extractfile(self._member(name))
        except (OSError, KeyError):
            opened = None
        if opened is None:
            raise self._damaged(f"it has no {name}")
        return opened

    def _member(self, name: str) -> str:
        """Some programs write ``./`` before each name."""
        assert self._archive is not None  # asked by _open alone
        return name if name in self._archive.getnames() else f"./{name}"

    def _json_of(self, data: bytes) -> dict[str, Any]:
        try:
            document = json.loads(data)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise self._damaged("a document of it is no JSON object")
        return document

    def _damaged(self, why: str) -> ImageError:
        return ImageError(f"{self._source} is no OCI image layout, or damaged: {why}", hint=_HINT)


@contextlib.contextmanager
def _opened(source: Path) -> Iterator[_Layout]:
    if source.is_dir():
        yield _Layout(source, None)
        return
    try:
        archive = tarfile.open(source, "r:")  # noqa: SIM115
    except tarfile.TarError:
        raise ImageError(
            f"{source} is no OCI image: neither a folder nor a tar", hint=_HINT
        ) from None
    with archive:
        try:
            yield _Layout(source, archive)
        except (tarfile.TarError, EOFError):
            raise ImageError(f"{source} ends too early, or is damaged", hint=_HINT) from None


def _unpack(
    layout: _Layout, row: dict[str, Any], tools: HostTools, layer: Path, work: Path
) -> None:
    """Verify a layer and put the files of it that lie in our folder into ``work``."""
    digest = hashlib.sha256()
    with layout.open(row) as reader, layer.open("wb") as writer:
        while block := reader.read(_BLOCK):
            digest.update(block)
            writer.write(block)
    name = f"the layer {row.get('digest')}"
    if digest.hexdigest() != layout.digest(row):
        raise ImageError(f"{name} has another content than its name says", hint=_HINT)
    try:
        with _decompressed(layer, tools) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                _extract(tar, member, work)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ToolError) as error:
        raise ImageError(f"{name} is no tar: {error}", hint=_HINT) from None
    finally:
        layer.unlink()


@contextlib.contextmanager
def _decompressed(layer: Path, tools: HostTools) -> Iterator[IO[bytes]]:
    """By what the file begins with, because media types of compressed layers differ."""
    with layer.open("rb") as stream:
        magic = stream.read(4)
    if magic[:2] == b"\x1f\x8b":
        with gzip.open(layer) as unpacked:
            yield cast("IO[bytes]", unpacked)
        return
    if magic == b"\x28\xb5\x2f\xfd":
        plain = layer.with_suffix(".tar")
        tools.run("zstd", "-q", "-d", layer, "-o", plain)
        with plain.open("rb") as stream:
            plain.unlink()
            yield stream
        return
    with layer.open("rb") as stream:
        yield stream


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, work: Path) -> None:
    folder, _, name = member.name.removeprefix("./").rpartition("/")
    if folder != FOLDER or not member.isreg() or not _NAME.fullmatch(name):
        return
    if member.size > _MOST_FILE:
        raise ImageError(f"/{FOLDER}/{name} of {member.size} bytes is too large for this system")
    content = tar.extractfile(member)
    assert content is not None  # a regular file
    with (work / name).open("wb") as writer:
        while block := content.read(_BLOCK):
            writer.write(block)
