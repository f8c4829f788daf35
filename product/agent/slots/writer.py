"""Writing a release into the mounted passive slot."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection

from product.agent.slots.content import SlotError, verify_file
from product.agent.system.files import sync_directory, write_atomic
from product.manifest import MANIFEST_NAME, Artifact, Manifest

# Brings an artifact to a path, checks its SHA-256 and returns the CRC-32 of what it wrote.
Fetch = Callable[[Artifact, str], int]


class SlotWriter:
    """Writes one release into a mounted passive slot; the order of calls is that of methods."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        # CRC-32 of each file whose SHA-256 is known to be right.
        self._checksums: dict[str, int] = {}

    def invalidate(self, manifest: Manifest, keep: Collection[str] = ()) -> None:
        """Make the slot unbootable, then remove what neither ``manifest`` nor ``keep`` names."""
        # The name must be gone from the disk before any artifact changes.
        self._remove(MANIFEST_NAME)
        sync_directory(self._directory)
        wanted = {_partial(artifact) for artifact in manifest.artifacts}
        wanted.update(artifact.name for artifact in manifest.artifacts)
        wanted.update(keep)
        for entry in os.scandir(self._directory):
            if entry.name not in wanted and entry.is_file(follow_symlinks=False):
                self._remove(entry.name)

    def place(self, artifact: Artifact, fetch: Fetch) -> bool:
        """Bring ``artifact`` into the slot by ``fetch(artifact, path)``, which may find the
        beginning of it at ``path``. False where an earlier attempt had already finished it."""
        path = f"{self._directory}/{artifact.name}"
        try:
            self._checksums[artifact.name] = verify_file(path, artifact)
            return False
        except SlotError:
            self._remove(artifact.name)
        partial = f"{self._directory}/{_partial(artifact)}"
        self._checksums[artifact.name] = fetch(artifact, partial)
        os.replace(partial, path)
        return True

    def verify(self, manifest: Manifest) -> None:
        """Bring everything to the disk, then compare what the disk has. Raises SlotError."""
        self._sync(manifest)
        for artifact in manifest.artifacts:
            path = f"{self._directory}/{artifact.name}"
            verify_file(path, artifact, self._checksums.get(artifact.name))

    def seal(self, manifest_bytes: bytes) -> None:
        """Make the slot bootable."""
        write_atomic(f"{self._directory}/{MANIFEST_NAME}", manifest_bytes, mode=0o644)

    def _sync(self, manifest: Manifest) -> None:
        for artifact in manifest.artifacts:
            descriptor = os.open(f"{self._directory}/{artifact.name}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_directory(self._directory)

    def _remove(self, name: str) -> None:
        try:
            os.unlink(f"{self._directory}/{name}")
        except FileNotFoundError:
            return


def _partial(artifact: Artifact) -> str:
    """The name carries the digest, so that one release's beginning never gets another's end."""
    return f"{artifact.name}.{artifact.sha256[:16]}.part"
