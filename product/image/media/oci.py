"""The operating system as an OCI image: a layer for each file of a slot, and what makes it a disk.

Image specification 1.1, as an image layout in one tar. Below ``/kubesolo-os`` the image has the
slot's files, ``rest.bin`` with what else a disk holds, ``disk.json`` that says where everything
goes (product.disk.pieces), and the list of what it is made of. Layers are not compressed, because
their files are.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from product.disk.pieces import DOCUMENT_NAME, REST_NAME
from product.image.build import Builder, Image
from product.image.cache import file_sha256
from product.image.errors import ImageError
from product.image.media.pieces_of import split
from product.image.recipe import Arch

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
REF_NAME = "org.opencontainers.image.ref.name"
# Where the files lie in the image.
FOLDER = "kubesolo-os"
SBOM_NAME = "sbom.spdx.json"
# What Go and registries call the architectures.
PLATFORMS = {Arch.X86_64: "amd64", Arch.AARCH64: "arm64"}
_OURS = "io.kubesolo.os."
_STANDARD = "org.opencontainers.image."
_BLOBS = "blobs/sha256"


def tag_of(version: str) -> str:
    """The tag of a version: semver's ``+`` is none of the letters of a tag."""
    return version.replace("+", "_")


def write_image(builder: Builder, image: Image, target: Path, *, channel: str | None) -> None:
    """Write ``target``, the layout of ``image`` as a tar; the same image gives the same bytes.

    Raises ImageError, OSError.
    """
    date = builder.recipe.source_date
    with builder.cache.scratch("oci") as work:
        files = {path.name: path for path in sorted(image.slot.folder.iterdir())}
        rest, document = work / REST_NAME, work / DOCUMENT_NAME
        document.write_bytes(split(image.disk, files, rest).to_bytes())
        files |= {REST_NAME: rest, DOCUMENT_NAME: document, SBOM_NAME: image.sbom}
        said = _annotations(builder, image, channel, date)
        blobs = _Blobs(work / "blobs")
        layers = [blobs.layer(name, path, date) for name, path in files.items()]
        row = _manifest(blobs, builder.arch, list(files), layers, said, date)
        row["annotations"] = {**said, REF_NAME: tag_of(image.slot.version)}
        _write(blobs.folder, [row], target, date)


def merge(layouts: Sequence[Path], version: str, target: Path) -> None:
    """One layout for several architectures: one index under the version's tag names their images.

    Raises ImageError, OSError.
    """
    with contextlib.ExitStack() as stack:
        archives = [stack.enter_context(tarfile.open(path)) for path in layouts]
        rows: list[dict[str, Any]] = []
        contents: dict[str, tuple[tarfile.TarFile, tarfile.TarInfo]] = {}
        for archive in archives:
            for row in json.loads(_member(archive, "index.json"))["manifests"]:
                rows.append({**row, "annotations": _without_tag(row["annotations"])})
            contents |= {
                member.name: (archive, member)
                for member in archive.getmembers()
                if member.name.startswith(f"{_BLOBS}/") and member.isfile()
            }
        index = _json({"schemaVersion": 2, "mediaType": INDEX, "manifests": rows})
        tagged = _row(INDEX, hashlib.sha256(index).hexdigest(), len(index))
        tagged["annotations"] = {REF_NAME: tag_of(version)}
        date = int(archives[0].getmember("oci-layout").mtime)
        with target.open("wb") as stream, _archive(stream, [tagged], date) as add:
            held = {f"{_BLOBS}/{tagged['digest'].partition(':')[2]}": io.BytesIO(index)}
            for name in sorted({*contents, *held}):
                if name in held:
                    add(name, held[name], len(index))
                else:
                    archive, member = contents[name]
                    opened = archive.extractfile(member)
                    assert opened is not None  # a file
                    add(name, opened, member.size)


def _annotations(builder: Builder, image: Image, channel: str | None, date: int) -> dict[str, str]:
    manifest = image.slot.manifest
    ours = {
        "version": manifest.version,
        "architecture": manifest.architecture,
        "hardware": builder.recipe.hardware,
        "kubernetes": manifest.kubernetes,
        "channel": channel,
        "disk.sha256": image.sha256,
        "disk.size": str(image.disk.stat().st_size),
    }
    standard = {
        "title": "KubeSolo OS",
        "description": "An immutable system for one Kubernetes node, as the pieces of its disk",
        "version": manifest.version,
        "created": _created(date),
    }
    return {f"{_OURS}{key}": value for key, value in ours.items() if value} | {
        f"{_STANDARD}{key}": value for key, value in standard.items()
    }


def _created(date: int) -> str:
    return datetime.fromtimestamp(date, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _manifest(
    blobs: _Blobs,
    arch: Arch,
    names: list[str],
    layers: list[dict[str, Any]],
    said: Mapping[str, str],
    date: int,
) -> dict[str, Any]:
    """The image's row in the index; what it names comes into ``blobs``."""
    platform = {"architecture": PLATFORMS[arch], "os": "linux"}
    created = _created(date)
    config = {
        **platform,
        "created": created,
        "config": {"Labels": dict(said)},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]},
        "history": [{"created": created, "created_by": f"/{FOLDER}/{name}"} for name in names],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": blobs.json(CONFIG, config),
        "layers": layers,
        "annotations": dict(said),
    }
    return {**blobs.json(MANIFEST, manifest), "platform": platform}


class _Blobs:
    """The layout's blobs, in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def layer(self, name: str, path: Path, date: int) -> dict[str, Any]:
        """A layer that has ``path`` as ``name`` in the image's folder."""
        partial = self.folder / "layer"
        with partial.open("wb") as stream, path.open("rb") as content, _tar(stream) as tar:
            folder = tarfile.TarInfo(FOLDER)
            folder.type, folder.mode, folder.mtime = tarfile.DIRTYPE, 0o755, date
            tar.addfile(folder)
            tar.addfile(_info(f"{FOLDER}/{name}", path.stat().st_size, date), content)
        sha256 = file_sha256(partial)
        row = _row(LAYER, sha256, partial.stat().st_size)
        partial.replace(self.folder / sha256)
        return row

    def json(self, media_type: str, document: object) -> dict[str, Any]:
        """A document of the layout itself."""
        data = _json(document)
        sha256 = hashlib.sha256(data).hexdigest()
        (self.folder / sha256).write_bytes(data)
        return _row(media_type, sha256, len(data))


def _write(blobs: Path, rows: list[dict[str, Any]], target: Path, date: int) -> None:
    with target.open("wb") as stream, _archive(stream, rows, date) as add:
        for path in sorted(blobs.iterdir()):
            with path.open("rb") as content:
                add(f"{_BLOBS}/{path.name}", content, path.stat().st_size)


@contextlib.contextmanager
def _archive(stream: Any, rows: list[dict[str, Any]], date: int) -> Iterator[Any]:
    """A layout that is being written; what it yields adds a blob. Small files come first."""

    def add(name: str, content: Any, size: int) -> None:
        tar.addfile(_info(name, size, date), content)

    with _tar(stream) as tar:
        for name, document in (
            ("index.json", {"schemaVersion": 2, "mediaType": INDEX, "manifests": rows}),
            ("oci-layout", {"imageLayoutVersion": "1.0.0"}),
        ):
            data = _json(document)
            add(name, io.BytesIO(data), len(data))
        yield add


def _tar(stream: Any) -> tarfile.TarFile:
    return tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT)


def _info(name: str, size: int, date: int) -> tarfile.TarInfo:
    """A file of root's; every time stamp is the recipe's."""
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, 0o644, date
    return info


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    opened = archive.extractfile(name)
    if opened is None:
        raise ImageError(f"{archive.name!r} has no {name}")
    return opened.read()


def _without_tag(annotations: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in annotations.items() if key != REF_NAME}


def _row(media_type: str, sha256: str, size: int) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": f"sha256:{sha256}", "size": size}


def _json(document: object) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
