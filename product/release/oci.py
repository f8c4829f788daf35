"""A repository as an OCI image layout: the form in which registries carry it.

One image index holds a manifest for each release that is served, with the platform that it is for,
and one manifest without a platform whose layers are the repository's small files, titled by their
path. An artifact is the blob of its SHA-256, whoever names it; nodes ask for it directly. The same
repository always gives the same digests: nothing here has a time of its own.

Image specification 1.1. Nodes trust none of it: they verify the metadata as from a web server.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from product.manifest import ARGUMENTS_NAME, INITRAMFS_NAME, KERNEL_NAME, MANIFEST_NAME, ROOT_NAME
from product.release.contents import Served, metadata_files, served_releases
from product.release.state import State

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"
TITLE = "org.opencontainers.image.title"
REF_NAME = "org.opencontainers.image.ref.name"
RELEASE = "application/vnd.kubesolo.os.release.v1"
METADATA = "application/vnd.kubesolo.os.metadata.v1"
_METADATA_FILE = "application/vnd.kubesolo.os.metadata.v1+json"
_MANIFEST_FILE = "application/vnd.kubesolo.os.manifest.v1+json"
_DELTA = "application/vnd.kubesolo.os.delta.v1+octet-stream"
_OTHER = "application/vnd.kubesolo.os.artifact.v1+octet-stream"
_LAYERS = {
    KERNEL_NAME: "application/vnd.kubesolo.os.kernel.v1+octet-stream",
    INITRAMFS_NAME: "application/vnd.kubesolo.os.initramfs.v1+zstd",
    ROOT_NAME: "application/vnd.kubesolo.os.root.v1+squashfs",
    ARGUMENTS_NAME: "application/vnd.kubesolo.os.arguments.v1+octet-stream",
}
# What registries call the architectures.
_PLATFORMS = {"x86_64": "amd64", "aarch64": "arm64"}
# The layout's own name for what it holds.
LAYOUT_TAG = "releases"


class Image(NamedTuple):
    """One release's manifest in the index; ``digest`` is what a publisher signs with cosign."""

    path: str
    version: str
    channel: str
    architecture: str
    digest: str


class Layout(NamedTuple):
    """Digests, ``sha256:`` and 64 hex digits; ``size`` is that of every blob together, in bytes."""

    digest: str
    metadata: str
    images: tuple[Image, ...]
    size: int


def write_layout(repository: Path, state: State, directory: Path) -> Layout:
    """Make ``directory``, which is empty, the layout of what ``repository`` serves.

    Files of the repository are linked to, so that nothing large is copied: it must not change while
    the layout is used. Raises RepositoryError where a release is not whole.
    """
    blobs = _Blobs(directory / "blobs" / "sha256")
    images, rows = [], []
    for release in served_releases(repository, state):
        row = _release(blobs, repository, release)
        channel, architecture, _ = release.path.split("/", 2)
        images.append(
            Image(release.path, release.manifest.version, channel, architecture, row["digest"])
        )
        rows.append(row)
    names = [*metadata_files(repository, state), *_manifests(repository, state)]
    metadata = blobs.manifest(
        METADATA,
        [blobs.file(repository / name, _METADATA_FILE, name) for name in names],
    )
    index = blobs.json(INDEX, {**_HEAD, "mediaType": INDEX, "manifests": [*rows, metadata]})
    tagged = {**index, "annotations": {REF_NAME: LAYOUT_TAG}}
    (directory / "index.json").write_bytes(_json({**_HEAD, "manifests": [tagged]}))
    (directory / "oci-layout").write_bytes(_json({"imageLayoutVersion": "1.0.0"}))
    return Layout(index["digest"], metadata["digest"], tuple(images), blobs.size)


_HEAD: dict[str, Any] = {"schemaVersion": 2}


def _manifests(repository: Path, state: State) -> Iterable[str]:
    return dict.fromkeys(each.manifest_path for each in served_releases(repository, state))


def _release(blobs: _Blobs, repository: Path, release: Served) -> dict[str, Any]:
    """The row of a release in the index."""
    layers = []
    for artifact in release.artifacts:
        kind = _DELTA if artifact in release.deltas else _LAYERS.get(artifact.name, _OTHER)
        file = repository / "artifacts" / artifact.sha256
        layers.append(blobs.link(file, kind, artifact.name, artifact.size, artifact.sha256))
    layers.append(blobs.file(repository / release.manifest_path, _MANIFEST_FILE, MANIFEST_NAME))
    custom = release.target.custom
    said = {
        "version": release.manifest.version,
        "channel": release.path.split("/", 1)[0],
        "architecture": release.manifest.architecture,
        "min_compatible_version": custom.get("min_compatible_version"),
        "release_notes": custom.get("notes"),
        "release_date": custom.get("release_date"),
    }
    annotations = {f"io.kubesolo.os.{key}": value for key, value in said.items() if value}
    row = blobs.manifest(RELEASE, layers, annotations)
    architecture = release.manifest.architecture
    row["platform"] = {"architecture": _PLATFORMS[architecture], "os": "linux"}
    row["annotations"] = annotations
    return row


class _Blobs:
    """The folder of blobs, each by its digest."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sizes: dict[str, int] = {}
        folder.mkdir(parents=True)

    @property
    def size(self) -> int:
        """Bytes of all of them together."""
        return sum(self._sizes.values())

    def link(
        self, file: Path, media_type: str, title: str, size: int, sha256: str
    ) -> dict[str, Any]:
        """A file whose digest is known; whoever reads the layout verifies it."""
        path = self._folder / sha256
        if sha256 not in self._sizes:
            path.symlink_to(file.absolute())
            self._sizes[sha256] = size
        return _row(media_type, sha256, size) | {"annotations": {TITLE: title}}

    def file(self, file: Path, media_type: str, title: str) -> dict[str, Any]:
        """A small file, copied: it may be replaced while it is read."""
        return self._add(media_type, file.read_bytes()) | {"annotations": {TITLE: title}}

    def manifest(
        self, kind: str, layers: list[dict[str, Any]], annotations: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """A manifest of ``layers`` whose artifact type is ``kind``."""
        document = {
            **_HEAD,
            "mediaType": MANIFEST,
            "artifactType": kind,
            "config": self._add(EMPTY, b"{}"),
            "layers": layers,
        }
        if annotations:
            document["annotations"] = annotations
        return self.json(MANIFEST, document) | {"artifactType": kind}

    def json(self, media_type: str, document: object) -> dict[str, Any]:
        """A document of the layout itself."""
        return self._add(media_type, _json(document))

    def _add(self, media_type: str, data: bytes) -> dict[str, Any]:
        sha256 = hashlib.sha256(data).hexdigest()
        if sha256 not in self._sizes:
            (self._folder / sha256).write_bytes(data)
            self._sizes[sha256] = len(data)
        return _row(media_type, sha256, len(data))


def _row(media_type: str, sha256: str, size: int) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": f"sha256:{sha256}", "size": size}


def _json(document: object) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
