"""OCI image layouts as one tar: ``oci-layout``, ``index.json`` and blobs by digest.

Image specification 1.1; ``io.containerd.image.name`` is what ``ctr images import`` names an image
by, ``org.opencontainers.image.ref.name`` what other tools look for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from product.image.oci import layer

_INDEX = "application/vnd.oci.image.index.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"


class Config(NamedTuple):
    """How a container of the image starts; ``user`` is numeric, so that kubelet can judge it."""

    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    user: str = "0:0"
    workdir: str = "/"
    ports: tuple[str, ...] = ()
    path: str = "/usr/sbin:/usr/bin:/sbin:/bin"


class Image(NamedTuple):
    """One image: what containerd calls it, how it starts, its layers from the lowest one on."""

    name: str
    config: Config
    layers: tuple[bytes, ...]


def archive(images: Iterable[Image], architecture: str, source_date: int) -> bytes:
    """The archive of ``images`` for one ``architecture`` (Go's name), with each layer once."""
    created = datetime.fromtimestamp(source_date, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    blobs = _Blobs()
    manifests = [_manifest(blobs, image, architecture, created) for image in images]
    index = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": manifests}
    files = [
        layer.folder("blobs"),
        layer.folder("blobs/sha256"),
        layer.file("index.json", _json(index)),
        layer.file("oci-layout", _json({"imageLayoutVersion": "1.0.0"})),
        *[layer.file(f"blobs/sha256/{digest}", data) for digest, data in blobs.content.items()],
    ]
    return layer.pack(files, source_date)


def _manifest(blobs: _Blobs, image: Image, architecture: str, created: str) -> dict[str, Any]:
    """The image's row in the index; what it names comes into ``blobs``."""
    rows = [blobs.add(_LAYER, content) for content in image.layers]
    described = blobs.add_json(
        _CONFIG,
        {
            "created": created,
            "architecture": architecture,
            "os": "linux",
            "config": _runtime(image.config),
            "rootfs": {"type": "layers", "diff_ids": [row["digest"] for row in rows]},
            "history": [{"created": created, "created_by": "product.image.oci"} for _ in rows],
        },
    )
    manifest = blobs.add_json(
        _MANIFEST,
        {"schemaVersion": 2, "mediaType": _MANIFEST, "config": described, "layers": rows},
    )
    manifest["platform"] = {"architecture": architecture, "os": "linux"}
    manifest["annotations"] = {
        "io.containerd.image.name": image.name,
        "org.opencontainers.image.ref.name": image.name,
        "org.opencontainers.image.created": created,
    }
    return manifest


def _runtime(config: Config) -> dict[str, Any]:
    values: dict[str, Any] = {
        "Env": [f"PATH={config.path}"],
        "User": config.user,
        "WorkingDir": config.workdir,
    }
    if config.entrypoint:
        values["Entrypoint"] = list(config.entrypoint)
    if config.command:
        values["Cmd"] = list(config.command)
    if config.ports:
        values["ExposedPorts"] = {port: {} for port in config.ports}
    return values


class _Blobs:
    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}

    def add(self, media_type: str, data: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        self.content[digest] = data
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    def add_json(self, media_type: str, document: object) -> dict[str, Any]:
        return self.add(media_type, _json(document))


def _json(document: object) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
