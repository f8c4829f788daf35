"""What a publisher puts into a repository: the files of a slot, each as its manifest says."""

from __future__ import annotations

from pathlib import Path

from product.manifest import MANIFEST_NAME, Manifest, ManifestError
from product.release.errors import SlotFilesError
from product.release.storage import sha256_file


def read_slot(slot_dir: Path, *, allow_drift: bool) -> Manifest:
    """The manifest of a directory of slot files, each compared with what it says of it.

    Raises SlotFilesError where one differs, and without ``allow_drift`` where the release was built
    from other packages than the locked ones.
    """
    path = slot_dir / MANIFEST_NAME
    try:
        manifest = Manifest.parse(path.read_bytes(), origin=str(path))
        for artifact in manifest.artifacts:
            file = slot_dir / artifact.name
            size = file.stat().st_size
            if size != artifact.size:
                raise SlotFilesError(f"{file} is {size} bytes, {path} says {artifact.size}")
            digest = sha256_file(file)
            if digest != artifact.sha256:
                raise SlotFilesError(f"{file} has SHA-256 {digest}, {path} says {artifact.sha256}")
    except OSError as error:
        raise SlotFilesError(
            f"{slot_dir} is not a directory of slot files: cannot read {error.filename}: "
            f"{error.strerror}",
            hint="name the directory that the image build wrote the slot's files to",
        ) from None
    except ManifestError as error:
        raise SlotFilesError(error.message) from None
    if manifest.drift and not allow_drift:
        raise SlotFilesError(
            f"{slot_dir} was not built from what is locked, {len(manifest.drift)} packages "
            f"are others: {'; '.join(manifest.drift)}",
            hint="renew the locks (./noxw -s lock) and build it anew, or add --allow-drift",
        )
    return manifest
