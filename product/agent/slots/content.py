"""What a slot holds, compared with its manifest."""

from __future__ import annotations

import hashlib
import os
import zlib
from typing import NamedTuple

from product.agent.errors import AgentError
from product.agent.system.direct_io import from_disk
from product.agent.system.files import read_bounded
from product.manifest import MANIFEST_NAME, MAX_BYTES, Artifact, Manifest, ManifestError


class SlotError(AgentError):
    """A slot may not be written, or what it holds is not what it should be."""

    code = "slot-unusable"


# Why a slot cannot be looked at now.
BUSY = "it is in use by another process"


class SlotContent(NamedTuple):
    """A slot's manifest and the SHA-256 of its bytes, or the ``problem`` that hides them."""

    manifest: Manifest | None = None
    digest: str | None = None
    problem: str | None = None


def inspect_directory(directory: str) -> SlotContent:
    path = f"{directory}/{MANIFEST_NAME}"
    try:
        data = read_bounded(path, MAX_BYTES)
        manifest = Manifest.parse(data)
    except FileNotFoundError:
        return SlotContent(problem="it has no manifest: nothing was written, or not to the end")
    except (OSError, ValueError) as error:
        return SlotContent(problem=f"its manifest cannot be read: {error}")
    except ManifestError as error:
        return SlotContent(problem=error.message)
    problem = None
    for artifact in manifest.artifacts:
        try:
            size = os.stat(f"{directory}/{artifact.name}").st_size
        except OSError as error:
            problem = f"{artifact.name} cannot be found: {error.strerror}"
            break
        if size != artifact.size:
            problem = f"{artifact.name} is {size} bytes, its manifest says {artifact.size}"
            break
    return SlotContent(manifest, hashlib.sha256(data).hexdigest(), problem)


def verify_file(path: str, artifact: Artifact, checksum: int | None = None) -> int:
    """The CRC-32 of what the disk has at ``path``. Raises SlotError where that is not ``artifact``.

    That is judged by ``checksum``, the CRC-32 of bytes that had the artifact's SHA-256, or by the
    SHA-256 itself.
    """
    name = artifact.name
    digest = hashlib.sha256()
    found = 0
    try:
        size = os.stat(path).st_size
        if size != artifact.size:
            message = f"{name} is {size} bytes, not {artifact.size}"
            raise SlotError(message, code="size-mismatch")
        for piece in from_disk(path):
            found = zlib.crc32(piece, found)
            if checksum is None:
                digest.update(piece)
    except OSError as error:
        message = f"{name} cannot be read back: {error.strerror}"
        raise SlotError(message, code="read-back-failed") from None
    if checksum is None:
        wrong, what = digest.hexdigest() != artifact.sha256, f"sha256 {digest.hexdigest()}"
        expected = artifact.sha256
    else:
        wrong, what, expected = found != checksum, f"crc32 {found:08x}", f"{checksum:08x}"
    if wrong:
        raise SlotError(
            f"{name} reads back as {what}, not {expected}",
            hint="the disk does not keep what is written to it",
            code="digest-mismatch",
        )
    return found
