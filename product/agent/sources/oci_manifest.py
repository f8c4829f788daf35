"""Indexes and image manifests of registries, which are whatever somebody pushed.

Only what is used is read: an unknown media type, artifact type or key is passed over, and so is a
row that cannot be used. What cannot be told apart is an error.

Code of the errors: ``bad-oci-manifest``.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from product.agent.errors import AgentError

INDEX = "application/vnd.oci.image.index.v1+json"
IMAGE = "application/vnd.oci.image.manifest.v1+json"
# What the distribution specification lets registries refuse beyond: bytes.
MAX_MANIFEST = 4 * 1024 * 1024
# Rows of an index, and layers of a manifest.
MAX_ROWS = 4096
_SHA256 = "sha256:"
_HEX = frozenset("0123456789abcdef")
_LARGEST = 1 << 62


class Descriptor(NamedTuple):
    """What a row says of a blob or a manifest; ``size`` is in bytes.

    ``architecture`` is that of its platform, in Go's words.
    """

    media_type: str
    digest: str
    size: int
    artifact_type: str | None
    annotations: dict[str, str]
    architecture: str | None

    @property
    def title(self) -> str | None:
        """The name of the file that it is."""
        return self.annotations.get("org.opencontainers.image.title")


class OciManifest(NamedTuple):
    """An index, whose rows are manifests, or an image, whose rows are its layers."""

    is_index: bool
    artifact_type: str | None
    rows: list[Descriptor]


def parse_oci_manifest(data: bytes, where: str) -> OciManifest:
    """``where`` is what to call it in errors. Raises AgentError."""
    if len(data) > MAX_MANIFEST:
        raise bad_oci_manifest(where, f"is larger than {MAX_MANIFEST} bytes")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise bad_oci_manifest(where, "is not JSON") from None
    if not isinstance(document, dict):
        raise bad_oci_manifest(where, "is not a JSON object")
    manifests, layers = document.get("manifests"), document.get("layers")
    kind = document.get("mediaType")
    # Who reads it one way must not be shown something else than who reads it the other way.
    if (manifests is None) == (layers is None) or (kind == INDEX and manifests is None):
        raise bad_oci_manifest(where, "is neither an index nor an image manifest")
    if kind == IMAGE and layers is None:
        raise bad_oci_manifest(where, "says that it is an image manifest, and is an index")
    rows = layers if manifests is None else manifests
    if not isinstance(rows, list):
        raise bad_oci_manifest(where, "has rows that are no list")
    if len(rows) > MAX_ROWS:
        raise bad_oci_manifest(where, f"has {len(rows)} rows, more than {MAX_ROWS}")
    found = [row for row in map(_descriptor, rows) if row is not None]
    return OciManifest(manifests is not None, _text(document.get("artifactType")), found)


def is_digest(text: str) -> bool:
    """Whether it is SHA-256's, the only kind that is used here."""
    return text.startswith(_SHA256) and len(text) == 71 and _HEX.issuperset(text[7:])


def _descriptor(row: object) -> Descriptor | None:
    if not isinstance(row, dict):
        return None
    media_type, digest, size = (row.get(key) for key in ("mediaType", "digest", "size"))
    if not (isinstance(media_type, str) and isinstance(digest, str) and is_digest(digest)):
        return None
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < _LARGEST:
        return None
    said, platform = row.get("annotations"), row.get("platform")
    annotations = {
        key: value for key, value in said.items() if isinstance(value, str)
    } if isinstance(said, dict) else {}  # fmt: skip
    architecture = platform.get("architecture") if isinstance(platform, dict) else None
    return Descriptor(
        media_type, digest, size, _text(row.get("artifactType")), annotations, _text(architecture)
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def bad_oci_manifest(where: str, why: str) -> AgentError:
    """What to raise for what cannot be used."""
    return AgentError(
        f"{where} {why}",
        code="bad-oci-manifest",
        hint="registry= and tag= must name what kubesolo-release push, or oras push, left there",
    )
