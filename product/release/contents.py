"""Which files a release is made of: what pruning keeps, and what a registry or a stick gets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tuf.api._payload import TargetFile

from product.deltas import DeltasError, parse_deltas
from product.manifest import Artifact, Manifest
from product.release.errors import RepositoryError
from product.release.state import State, read_manifest, versions_of


class Served(NamedTuple):
    """One release that nodes find; ``path`` is its target's, ``manifest_path`` its file's."""

    path: str
    target: TargetFile
    manifest: Manifest
    manifest_path: str
    deltas: tuple[Artifact, ...]

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """All that lies below ``artifacts/`` for it."""
        return (*self.manifest.artifacts, *self.deltas)


def deltas_of(target: TargetFile) -> tuple[Artifact, ...]:
    """The files of a release's deltas, each by a name of its own. Raises RepositoryError."""
    try:
        deltas = parse_deltas(target.custom)
    except DeltasError as error:
        raise RepositoryError(f"{target.path}: {error.message}") from None
    return tuple(
        Artifact(f"{delta.name}.{delta.source[:16]}.delta", delta.size, delta.sha256)
        for delta in deltas
    )


def read_release(directory: Path, target: TargetFile) -> Served:
    """A release with all its files' names. Raises RepositoryError where it is not whole."""
    manifest = read_manifest(directory, target)
    (prefixed,) = target.get_prefixed_paths()
    return Served(target.path, target, manifest, f"targets/{prefixed}", deltas_of(target))


def served_releases(directory: Path, state: State) -> list[Served]:
    """What nodes find, by path. Raises RepositoryError where something is not whole."""
    return [read_release(directory, target) for _, target in sorted(state.targets.targets.items())]


def metadata_files(directory: Path, state: State) -> Iterator[str]:
    """The metadata that nodes ask for: every root, and what the timestamp names."""
    for version in sorted(versions_of(directory / "metadata", "root")):
        if version <= state.root.version:
            yield f"metadata/{version}.root.json"
    yield f"metadata/{state.targets.version}.targets.json"
    yield f"metadata/{state.snapshot.version}.snapshot.json"
    yield "metadata/timestamp.json"


def needed_files(directory: Path, state: State) -> list[str]:
    """All that a node may ask for today, relative to ``directory``; the timestamp comes last.

    Raises RepositoryError where something of it is not whole.
    """
    found: dict[str, None] = {}
    for release in served_releases(directory, state):
        found |= dict.fromkeys(f"artifacts/{each.sha256}" for each in release.artifacts)
        found[release.manifest_path] = None
    return [*found, *metadata_files(directory, state)]
