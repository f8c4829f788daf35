"""Removing what nothing refers to any more; what is served, and what was before it, stays.

Only files of a repository's own kind are touched: metadata by version, manifests and artifacts by
digest.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from product.manifest import MANIFEST_NAME
from product.release.contents import read_release
from product.release.errors import RepositoryError
from product.release.state import read_state, versions_of
from product.release.storage import exclusive
from product.release.targets import former_of

# Releases of a path that stay: the one that is served, and the one that `withdraw` puts back, which
# is also the one that nodes may be fetching still.
KEEP = 2
# A client that read the timestamp a while ago asks for what it named then.
_KEEP_VERSIONS = 10
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Pruned(NamedTuple):
    """The files, relative to the repository, and their bytes together."""

    files: tuple[str, ...]
    size: int


def prune(directory: Path, *, keep: int = KEEP, dry_run: bool = False) -> Pruned:
    """Remove old metadata, and releases beyond the newest ``keep`` of each path.

    Raises RepositoryError, before anything is removed, where what is served is not whole.
    """
    if keep < 1:
        raise RepositoryError(f"cannot keep {keep} releases: what is served stays, at least 1")
    with exclusive(directory):
        wanted = _wanted(directory, keep)
        found = [file for file in _candidates(directory) if file not in wanted]
        size = sum(file.stat().st_size for file in found)
        if not dry_run:
            for file in found:
                file.unlink()
    return Pruned(tuple(str(file.relative_to(directory)) for file in found), size)


def _wanted(directory: Path, keep: int) -> set[Path]:
    state = read_state(directory)
    metadata = directory / "metadata"
    wanted = {
        metadata / f"{state.targets.version - back}.targets.json" for back in range(_KEEP_VERSIONS)
    }
    wanted |= {
        metadata / f"{state.snapshot.version - back}.snapshot.json"
        for back in range(_KEEP_VERSIONS)
    }
    for path, served in state.targets.targets.items():
        for target in [served, *former_of(state.targets, path)][:keep]:
            try:
                release = read_release(directory, target)
            except RepositoryError:
                if target is served:
                    raise
                continue
            wanted.add(directory / release.manifest_path)
            wanted |= {directory / "artifacts" / each.sha256 for each in release.artifacts}
    return wanted


def _candidates(directory: Path) -> list[Path]:
    metadata, artifacts = directory / "metadata", directory / "artifacts"
    found = [
        metadata / f"{version}.{role}.json"
        for role in ("targets", "snapshot")
        for version in versions_of(metadata, role)
    ]
    if artifacts.is_dir():
        found += [file for file in artifacts.iterdir() if _DIGEST.fullmatch(file.name)]
    found += [
        file
        for file in (directory / "targets").glob(f"*/*/*.{MANIFEST_NAME}")
        if _DIGEST.fullmatch(file.name.removesuffix(f".{MANIFEST_NAME}"))
    ]
    return sorted(file for file in found if file.is_file())
