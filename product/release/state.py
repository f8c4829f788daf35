"""Reading what a repository serves, as strictly as a client reads it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from tuf.api._payload import MetaFile, Root, Snapshot, T, TargetFile, Targets, Timestamp
from tuf.api.exceptions import RepositoryError as TufError
from tuf.api.metadata import Metadata

from product.manifest import Manifest, ManifestError
from product.release.errors import RepositoryError


class State(NamedTuple):
    """The content of the metadata that is being served, its signatures verified."""

    root: Root
    targets: Targets
    snapshot: Snapshot
    timestamp: Timestamp


def read_state(directory: Path) -> State:
    """Read what ``directory`` serves; raises RepositoryError where it does not hold together.

    Expired metadata is read like any other: refreshing it is what the reader may want.
    """
    metadata = directory / "metadata"
    first = metadata / "1.root.json"
    if not first.is_file():
        raise RepositoryError(
            f"{directory} is not a release repository: it has no metadata/1.root.json",
            hint=f"make one: kubesolo-release init {directory}",
        )
    root = _newest_root(metadata)
    timestamp = _load(root, Timestamp, metadata / "timestamp.json", None)
    snapshot_meta = timestamp.snapshot_meta
    snapshot = _load(
        root, Snapshot, metadata / f"{snapshot_meta.version}.snapshot.json", snapshot_meta
    )
    meta = snapshot.meta["targets.json"]
    targets = _load(root, Targets, metadata / f"{meta.version}.targets.json", meta)
    return State(root, targets, snapshot, timestamp)


def check_signatures(root: Root, metadata: Metadata[T], role: str) -> None:
    """Raise RepositoryError unless ``root`` accepts the signatures of ``metadata``."""
    try:
        root.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    except TufError as error:
        raise RepositoryError(
            f"the {role} metadata is not signed as root version {root.version} asks: {error}"
        ) from None


def versions_of(metadata: Path, role: str) -> list[int]:
    """The versions of the files ``N.ROLE.json``, in no order."""
    stems = [file.name.removesuffix(f".{role}.json") for file in metadata.glob(f"*.{role}.json")]
    return [int(stem) for stem in stems if stem.isascii() and stem.isdigit()]


def read_manifest(directory: Path, target: TargetFile) -> Manifest:
    """The manifest of a release, as it was signed. Raises RepositoryError."""
    (prefixed,) = target.get_prefixed_paths()
    path = directory / "targets" / prefixed
    try:
        data = path.read_bytes()
        target.verify_length_and_hashes(data)
        return Manifest.parse(data, origin=str(path))
    except OSError as error:
        raise RepositoryError(f"cannot read {path}: {error.strerror}") from None
    except TufError as error:
        raise RepositoryError(f"{path} is not what was signed: {error}") from None
    except ManifestError as error:
        raise RepositoryError(error.message) from None


def _newest_root(metadata: Path) -> Root:
    first = _parse(Root, metadata / "1.root.json")
    check_signatures(first.signed, first, "root")
    root = first.signed
    while (following := metadata / f"{root.version + 1}.root.json").is_file():
        successor = _parse(Root, following)
        check_signatures(root, successor, "root")
        check_signatures(successor.signed, successor, "root")
        if successor.signed.version != root.version + 1:
            raise RepositoryError(f"{following} calls itself version {successor.signed.version}")
        root = successor.signed
    return root


def _load(root: Root, kind: type[T], path: Path, meta: MetaFile | None) -> T:
    metadata = _parse(kind, path, meta)
    check_signatures(root, metadata, kind.type)
    if meta is not None and metadata.signed.version != meta.version:
        raise RepositoryError(
            f"{path} is version {metadata.signed.version}, {meta.version} was expected"
        )
    return metadata.signed


def _parse(kind: type[T], path: Path, meta: MetaFile | None = None) -> Metadata[T]:
    try:
        data = path.read_bytes()
        if meta is not None:
            meta.verify_length_and_hashes(data)
        metadata: Metadata[T] = Metadata.from_bytes(data)
    except OSError as error:
        raise RepositoryError(f"cannot read {path}: {error.strerror}") from None
    except TufError as error:
        raise RepositoryError(f"{path} is damaged: {error}") from None
    if not isinstance(metadata.signed, kind):
        raise RepositoryError(f"{path} holds {metadata.signed.type} metadata, not {kind.type}")
    return metadata
