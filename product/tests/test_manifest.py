"""The manifest of a release."""

from __future__ import annotations

import json

import pytest

from product.agent.tests.world import FakeRelease
from product.manifest import ARTIFACT_NAMES, Manifest, ManifestError

MANIFEST = FakeRelease("0.2.0").manifest


@pytest.mark.parametrize("kubernetes", ["", "1.20.2"])
def test_what_is_written_is_read(kubernetes: str) -> None:
    manifest = MANIFEST._replace(kubernetes=kubernetes)
    assert Manifest.parse(manifest.to_bytes()) == manifest
    assert ("kubernetes" in json.loads(manifest.to_bytes())) == bool(kubernetes)


def test_a_key_of_a_later_version_is_passed_over() -> None:
    document = {**json.loads(MANIFEST.to_bytes()), "colour": "blue"}
    for artifact in document["artifacts"]:
        artifact["compression"] = "zstd"
    assert Manifest.parse(json.dumps(document).encode()) == MANIFEST


def test_drift_is_there_where_packages_drifted() -> None:
    assert "drift" not in json.loads(MANIFEST.to_bytes())
    drifted = MANIFEST._replace(drift=("appliance: libc6 1 -> libc6 2",))
    assert Manifest.parse(drifted.to_bytes()) == drifted
    for wrong in ("libc6", [1]):
        document = {**json.loads(MANIFEST.to_bytes()), "drift": wrong}
        with pytest.raises(ManifestError, match="there has drift"):
            Manifest.parse(json.dumps(document).encode(), origin="there")


def test_a_version_of_kubernetes_is_a_text() -> None:
    document = {**json.loads(MANIFEST.to_bytes()), "kubernetes": 1.2}
    with pytest.raises(ManifestError, match=r"there has kubernetes 1\.2"):
        Manifest.parse(json.dumps(document).encode(), origin="there")


def test_artifacts_of_a_later_system_are_kept_and_a_missing_one_is_refused() -> None:
    def listing(*names: str) -> bytes:
        entries = [{"name": name, "size": 1, "sha256": "0" * 64} for name in names]
        document = {"schema": 1, "version": "1", "architecture": "x86_64", "artifacts": entries}
        return json.dumps(document).encode()

    parsed = Manifest.parse(listing(*ARTIFACT_NAMES, "later.img"))
    assert [artifact.name for artifact in parsed.artifacts][-1] == "later.img"
    for lost in ARTIFACT_NAMES:
        with pytest.raises(ManifestError, match="a slot needs"):
            Manifest.parse(listing(*(name for name in ARTIFACT_NAMES if name != lost)))
    for name in ("../up", "manifest.json", "a/b", ".hidden", "", "x" * 65, "A"):
        with pytest.raises(ManifestError, match="which is no file's name"):
            Manifest.parse(listing(*ARTIFACT_NAMES, name))
    with pytest.raises(ManifestError, match="a slot needs"):
        Manifest.parse(listing(*ARTIFACT_NAMES, "later.img", "later.img"))
