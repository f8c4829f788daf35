"""Bringing what a repository serves into an OCI registry, so that nodes see the old or the new.

What is there already is not uploaded again. The tag moves last, so a push that is cut off leaves
the former state served, and the next one goes on from what has arrived.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from product.release.errors import RegistryError
from product.release.oci import LAYOUT_TAG, METADATA, TITLE, Layout, write_layout
from product.release.oras import Access, NotThereError, Oras, Reference, oras
from product.release.state import read_state
from product.release.storage import exclusive
from product.release.verify import require_valid

_FIRST_ROOT = "metadata/1.root.json"
_TIMESTAMP = "metadata/timestamp.json"
# Of an index that somebody else may have made.
_MOST_MANIFESTS = 4


class Pushed(NamedTuple):
    """``changed``: the tag was moved. ``uploaded`` counts files that the registry did not have."""

    reference: Reference
    layout: Layout
    changed: bool
    uploaded: int


class _Held(NamedTuple):
    """What a tag names in the registry; the files are None where it is no release repository."""

    digest: str
    first_root: bytes | None
    timestamp: bytes | None


def push(
    repository: Path,
    reference: Reference,
    access: Access,
    *,
    force: bool = False,
    said: Callable[[str], None] = lambda line: None,
    now: datetime | None = None,
) -> Pushed:
    """Make ``reference`` serve what ``repository`` serves.

    Raises RepositoryError where that does not verify, and RegistryError where the registry fails
    or, unless ``force``, holds newer metadata, those of another repository, or something else.
    """
    with (
        exclusive(repository),
        tempfile.TemporaryDirectory(prefix="kubesolo-push-") as name,
        oras(access, reference.registry, Path(name)) as client,
    ):
        require_valid(repository, now=now)
        folder = Path(name) / "layout"
        layout = write_layout(repository, read_state(repository), folder)
        held = None if force else _held(client, reference)
        if held is not None:
            if held.digest == layout.digest:
                return Pushed(reference, layout, changed=False, uploaded=0)
            _require_older(repository, reference, held)
        uploaded = _copy(client, folder, reference, said)
        return Pushed(reference, layout, changed=True, uploaded=uploaded)


def _copy(client: Oras, folder: Path, reference: Reference, said: Callable[[str], None]) -> int:
    uploaded = 0

    def line(text: str) -> None:
        nonlocal uploaded
        uploaded += text.startswith("Copied  ")
        said(text)

    client.copy(folder, LAYOUT_TAG, str(reference), line)
    return uploaded


def _require_older(repository: Path, reference: Reference, held: _Held) -> None:
    """Raise RegistryError where nodes that follow the registry would be worse off."""
    if held.timestamp is None or held.first_root is None:
        raise RegistryError(
            f"{reference} holds something else than a release repository ({held.digest})",
            hint="push to another name or tag, or replace it with --force",
        )
    if held.first_root != (repository / _FIRST_ROOT).read_bytes():
        raise RegistryError(
            f"{reference} holds another repository, which begins with other root keys: nodes that "
            f"follow it would refuse {repository}",
            hint="push to another name or tag, or replace it with --force",
        )
    ours = (repository / _TIMESTAMP).read_bytes()
    there, here = _version(held.timestamp), _version(ours)
    if there is None or here is None:
        raise RegistryError(
            f"{reference} holds a timestamp that cannot be read",
            hint="replace what is there with --force",
        )
    if there > here:
        raise RegistryError(
            f"{reference} serves timestamp version {there}, and {repository} has {here}: nodes "
            "that have seen the newer one would take it for a replay",
            hint="is it a backup? kubesolo-release refresh continues above what was signed; "
            "--force pushes it as it is",
        )
    if there == here and held.timestamp != ours:
        raise RegistryError(
            f"{reference} serves another timestamp of version {there} than {repository}: two "
            "copies of the repository were signed apart",
            hint="kubesolo-release refresh signs a newer one; --force pushes it as it is",
        )


def _version(timestamp: bytes) -> int | None:
    try:
        version = json.loads(timestamp)["signed"]["version"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return version if isinstance(version, int) else None


def _held(client: Oras, reference: Reference) -> _Held | None:
    """What the tag names now; None where there is none. Raises RegistryError."""
    try:
        data = client.manifest(str(reference))
    except NotThereError:
        return None
    documents = [data]
    for digest in metadata_manifests(data):
        documents.append(client.manifest(f"{reference.repository}@{digest}"))
    wanted: dict[str, str] = {}
    for document in documents:
        wanted = titled_files(document) | wanted
    files = {
        name: client.blob(reference.repository, wanted[name])
        for name in (_FIRST_ROOT, _TIMESTAMP)
        if name in wanted
    }
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    return _Held(digest, files.get(_FIRST_ROOT), files.get(_TIMESTAMP))


def metadata_manifests(index: bytes) -> list[str]:
    """The digests of an index's manifests that title a repository's files, a few at most."""
    rows = _rows(index, "manifests")
    found = [_digest(row) for row in rows if row.get("artifactType") == METADATA]
    return [digest for digest in found if digest][:_MOST_MANIFESTS]


def titled_files(manifest: bytes) -> dict[str, str]:
    """The digests of a manifest's layers by their titles; the first one of a title counts."""
    found: dict[str, str] = {}
    for row in _rows(manifest, "layers"):
        annotations = row.get("annotations")
        title = annotations.get(TITLE) if isinstance(annotations, dict) else None
        digest = _digest(row)
        if isinstance(title, str) and digest:
            found.setdefault(title, digest)
    return found


def _rows(document: bytes, key: str) -> list[dict[str, Any]]:
    try:
        rows = json.loads(document)[key]
    except (ValueError, RecursionError, LookupError, TypeError):
        return []
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _digest(row: dict[str, Any]) -> str | None:
    digest = row.get("digest")
    found = isinstance(digest, str) and re.fullmatch(r"sha256:[0-9a-f]{64}", digest)
    return str(digest) if found else None
