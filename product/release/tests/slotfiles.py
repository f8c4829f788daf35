"""Small slot directories with true manifests."""

from __future__ import annotations

import hashlib
from pathlib import Path

from product.manifest import ARTIFACT_NAMES, MANIFEST_NAME, Artifact, Manifest


def make_slot(
    directory: Path,
    version: str,
    architecture: str = "x86_64",
    drift: tuple[str, ...] = (),
) -> Path:
    """A directory of slot files whose content follows from version and architecture."""
    directory.mkdir(parents=True)
    artifacts = []
    for name in ARTIFACT_NAMES:
        data = f"{name} {version} {architecture}\n".encode() * 20
        (directory / name).write_bytes(data)
        artifacts.append(Artifact(name, len(data), hashlib.sha256(data).hexdigest()))
    manifest = Manifest(version, architecture, tuple(artifacts), drift=drift)
    (directory / MANIFEST_NAME).write_bytes(manifest.to_bytes())
    return directory
