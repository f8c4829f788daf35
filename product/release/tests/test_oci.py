"""The layout of what a registry gets, without a registry."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from product.deltas import Delta
from product.release.contents import needed_files
from product.release.deltas import attach
from product.release.errors import RegistryError, RepositoryError
from product.release.keys import KeyDirectory
from product.release.oci import write_layout
from product.release.oras import Reference
from product.release.push import metadata_manifests, titled_files
from product.release.repository import Repository
from product.release.state import read_state
from product.release.tests.slotfiles import make_slot

DATA = b"a delta"
DELTA = Delta("root.squashfs", "1" * 64, "2" * 64, len(DATA), hashlib.sha256(DATA).hexdigest())


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    made = Repository.create(tmp_path / "repository", KeyDirectory.generate(tmp_path / "keys"))
    made.publish(make_slot(tmp_path / "slot", "0.2.0"), channel="stable")
    return tmp_path / "repository"


def document(layout: Path, digest: str) -> Any:
    return json.loads((layout / "blobs/sha256" / digest.removeprefix("sha256:")).read_bytes())


def test_deltas_are_layers_of_their_own(repository: Path, tmp_path: Path) -> None:
    state = read_state(repository)
    attach(state.targets.targets["stable/x86_64/manifest.json"], [DELTA])
    (repository / "artifacts" / DELTA.sha256).write_bytes(DATA)
    made = write_layout(repository, state, tmp_path / "layout")
    manifest = document(tmp_path / "layout", made.images[0].digest)
    (layer,) = [row for row in manifest["layers"] if "delta" in row["mediaType"]]
    assert layer == {
        "mediaType": "application/vnd.kubesolo.os.delta.v1+octet-stream",
        "digest": f"sha256:{DELTA.sha256}",
        "size": len(DATA),
        "annotations": {"org.opencontainers.image.title": "root.squashfs.1111111111111111.delta"},
    }
    assert (tmp_path / "layout/blobs/sha256" / DELTA.sha256).read_bytes() == DATA
    assert f"artifacts/{DELTA.sha256}" in needed_files(repository, state)


def test_a_delta_that_is_none_is_named(repository: Path) -> None:
    state = read_state(repository)
    target = state.targets.targets["stable/x86_64/manifest.json"]
    target.unrecognized_fields["custom"]["deltas"] = [{"format": "kubesolo-delta-1"}]
    with pytest.raises(RepositoryError, match="the signed field deltas"):
        needed_files(repository, state)


def test_nothing_large_is_copied(repository: Path, tmp_path: Path) -> None:
    write_layout(repository, read_state(repository), tmp_path / "layout")
    for file in (repository / "artifacts").iterdir():
        link = tmp_path / "layout/blobs/sha256" / file.name
        assert link.is_symlink()
        assert link.resolve() == file


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("registry.example.com/os", ("registry.example.com", "os", "latest")),
        ("registry.example.com:5000/a/b-c:v1.2", ("registry.example.com:5000", "a/b-c", "v1.2")),
        ("localhost/os", ("localhost", "os", "latest")),
        ("registry:5000/os", ("registry:5000", "os", "latest")),
        ("127.0.0.1:5000/a__b.c:x_Y", ("127.0.0.1:5000", "a__b.c", "x_Y")),
        ("[::1]:5000/os:x", ("[::1]:5000", "os", "x")),
        ("ghcr.io/owner/os:stable", ("ghcr.io", "owner/os", "stable")),
    ],
)
def test_places(text: str, found: tuple[str, str, str]) -> None:
    assert Reference.parse(text) == found


@pytest.mark.parametrize(
    "text", ["", "os", "owner/os", "https://r.example/os", "r.example/OS", "r.example/os:",
             "r.example/os@sha256:1", "-o/x", "r.example/--x", "r.example/a b", "r.example//a"],
)  # fmt: skip
def test_what_is_no_place(text: str) -> None:
    with pytest.raises(RegistryError, match="is no place in a registry"):
        Reference.parse(text)


@pytest.mark.parametrize(
    "data", [b"", b"7", b"[]", b'{"layers": 7}', b'{"layers": [7, {}]}', b'{"manifests": {}}',
             b'{"layers": [{"annotations": {"org.opencontainers.image.title": "x"},'
             b' "digest": "sha256:x"}]}', b"[" * 99999],
)  # fmt: skip
def test_what_others_put_there_is_no_repository(data: bytes) -> None:
    assert titled_files(data) == {}
    assert metadata_manifests(data) == []
