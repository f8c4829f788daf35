"""Publishing: reproducible, atomic for clients, and refusing what it should not sign."""

from __future__ import annotations

import functools
import json
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from product.release.errors import ReleaseError, RepositoryError, SlotFilesError
from product.release.keys import ROLES, KeyDirectory
from product.release.repository import Expiry, Overrides, Repository
from product.release.storage import exclusive
from product.release.tests.slotfiles import make_slot
from product.release.verify import Report, verify

NOW = datetime(2026, 11, 21, 12, 0, 0, 123456, tzinfo=UTC)


def clock() -> datetime:
    return NOW


@pytest.fixture
def keys(tmp_path: Path) -> KeyDirectory:
    return KeyDirectory.generate(tmp_path / "keys")


@pytest.fixture
def slot(tmp_path: Path) -> Path:
    return make_slot(tmp_path / "slot", "0.2.0")


@pytest.fixture
def repository(tmp_path: Path, keys: KeyDirectory) -> Repository:
    return Repository.create(tmp_path / "repository", keys, clock=clock)


def tree(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def report(repository: Repository, now: datetime = NOW) -> Report:
    return verify(repository.directory, now=now)


def test_a_release_lies_where_the_contract_says(repository: Repository, slot: Path) -> None:
    published = repository.publish(
        slot, channel="stable", notes="first", min_compatible_version="0.1.0"
    )
    assert published.target_path == "stable/x86_64/manifest.json"
    assert published.replaces is None
    files = tree(repository.directory)
    manifest = (slot / "manifest.json").read_bytes()
    assert files[f"targets/stable/x86_64/{published.digest}.manifest.json"] == manifest
    for artifact in published.manifest.artifacts:
        assert files[f"artifacts/{artifact.sha256}"] == (slot / artifact.name).read_bytes()
    assert {name for name in files if name.startswith("metadata/")} == {
        "metadata/1.root.json",
        "metadata/1.targets.json",
        "metadata/2.targets.json",
        "metadata/1.snapshot.json",
        "metadata/2.snapshot.json",
        "metadata/timestamp.json",
    }
    signed = json.loads(files["metadata/2.targets.json"])["signed"]
    assert signed["targets"]["stable/x86_64/manifest.json"]["custom"] == {
        "version": "0.2.0",
        "channel": "stable",
        "architecture": "x86_64",
        "min_compatible_version": "0.1.0",
        "release_date": "2026-11-21T12:00:00Z",
        "notes": "first",
    }
    assert report(repository).problems == ()


def test_the_same_keys_clock_and_files_give_the_same_bytes(
    tmp_path: Path, keys: KeyDirectory, slot: Path
) -> None:
    trees = []
    for name in ("one", "two"):
        made = Repository.create(tmp_path / name, keys, clock=clock)
        made.publish(slot, channel="stable")
        made.refresh()
        trees.append(tree(tmp_path / name))
    assert trees[0] == trees[1]


def test_a_new_release_replaces_and_other_channels_stay(
    repository: Repository, slot: Path, tmp_path: Path
) -> None:
    repository.publish(slot, channel="stable")
    repository.publish(slot, channel="beta")
    newer = make_slot(tmp_path / "newer", "0.3.0")
    assert repository.publish(newer, channel="stable").replaces == "0.2.0"
    releases = {release.path: release.version for release in report(repository).releases}
    assert releases == {
        "stable/x86_64/manifest.json": "0.3.0",
        "beta/x86_64/manifest.json": "0.2.0",
    }


class Cut(Exception):
    """The power went."""


def replaces(action: Callable[[], object], monkeypatch: pytest.MonkeyPatch, stop: int) -> bool:
    """Run ``action`` with a cut before its rename number ``stop``; False where it had fewer."""
    real = os.rename
    done = 0

    def replace(source: Path, target: Path) -> Path:
        nonlocal done
        if done == stop:
            raise Cut
        done += 1
        real(source, target)
        return target

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        try:
            action()
        except Cut:
            return True
    return False


def test_a_publish_cut_anywhere_leaves_the_old_release_served(
    repository: Repository,
    keys: KeyDirectory,
    slot: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    repository.publish(slot, channel="stable")
    newer = make_slot(tmp_path / "newer", "0.3.0")
    cuts = 0
    while True:
        copy = tmp_path / f"cut-{cuts}"
        shutil.copytree(repository.directory, copy)
        opened = Repository.open(copy, keys, clock=clock)
        publish = functools.partial(opened.publish, newer, channel="stable")
        cut = replaces(publish, monkeypatch, cuts)
        served = report(opened)
        assert served.problems == ()
        assert [release.version for release in served.releases] == ["0.2.0" if cut else "0.3.0"]
        assert not list(copy.rglob(".*")), "temporary files are left"
        publish()
        assert [release.version for release in report(opened).releases] == ["0.3.0"]
        if not cut:
            break
        cuts += 1
    # Four artifacts, the manifest, three files of metadata.
    assert cuts == 8


@pytest.mark.parametrize("role", ROLES)
def test_a_rotation_cut_anywhere_keeps_clients_and_can_be_finished(
    tmp_path: Path, slot: Path, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    cuts = 0
    while True:
        base = tmp_path / f"cut-{cuts}"
        keys = KeyDirectory.generate(base / "keys", {role: 2})
        repository = Repository.create(base / "repository", keys, thresholds={role: 2}, clock=clock)
        repository.publish(slot, channel="stable")
        before = {key.public_key.keyid for key in keys.signers(role)}
        cut = replaces(functools.partial(repository.rotate, role), monkeypatch, cuts)
        assert report(repository).problems == ()
        if not cut:
            break
        repository.rotate(role)
        after = {key.public_key.keyid for key in keys.signers(role)}
        assert len(after) == 2
        assert not before & after
        assert len(list((keys.path / "retired").glob(f"{role}*.pub.pem"))) >= 2
        repository.publish(slot, channel="stable")
        assert report(repository).problems == ()
        cuts += 1
    assert cuts >= 9


def test_a_new_root_is_signed_by_old_and_new_keys(
    repository: Repository, keys: KeyDirectory
) -> None:
    (old,) = keys.signers("root")
    (keyid,) = repository.rotate("root")
    document = json.loads((repository.metadata / "2.root.json").read_text())
    assert {entry["keyid"] for entry in document["signatures"]} == {old.public_key.keyid, keyid}
    assert document["signed"]["roles"]["root"]["keyids"] == [keyid]
    assert old.public_key.keyid not in document["signed"]["keys"]


def test_a_retired_key_publishes_nothing(
    repository: Repository, keys: KeyDirectory, slot: Path, tmp_path: Path
) -> None:
    former = KeyDirectory(tmp_path / "former")
    shutil.copytree(keys.path, former.path)
    repository.rotate("targets")
    before = tree(repository.directory)
    stale = Repository.open(repository.directory, former, clock=clock)
    with pytest.raises(RepositoryError, match="holds 0 of the keys"):
        stale.publish(slot, channel="stable")
    after = tree(repository.directory)
    assert {name: data for name, data in after.items() if not name.startswith(("art", "tar"))} == {
        name: data for name, data in before.items() if not name.startswith(("art", "tar"))
    }


def test_publishing_needs_no_root_key(
    repository: Repository, keys: KeyDirectory, slot: Path
) -> None:
    (keys.path / "root.pem").unlink()
    repository.publish(slot, channel="stable")
    repository.refresh()
    with pytest.raises(RepositoryError, match="for root"):
        repository.rotate("timestamp")


def test_expiry_follows_the_clock_and_refresh_renews_it(
    tmp_path: Path, keys: KeyDirectory, slot: Path
) -> None:
    moment = NOW
    made = Repository.create(
        tmp_path / "r", keys, expiry=Expiry(timestamp=timedelta(days=2)), clock=lambda: moment
    )
    made.publish(slot, channel="stable")
    third_day = NOW + timedelta(days=3)
    assert report(made, third_day).problems == (
        "timestamp metadata expired on 2026-11-23T12:00:00+00:00",
    )
    moment = third_day
    made.refresh()
    assert report(made, third_day).problems == ()


def test_stated_values_override_the_clock_and_the_manifest(
    repository: Repository, slot: Path
) -> None:
    repository.publish(
        slot,
        channel="stable",
        overrides=Overrides(
            expires=NOW - timedelta(days=1),
            architecture_path="aarch64",
            release_date=NOW - timedelta(days=9),
        ),
    )
    found = report(repository)
    assert [(release.path, release.release_date) for release in found.releases] == [
        ("stable/aarch64/manifest.json", "2026-11-12T12:00:00Z")
    ]
    assert sorted(problem.split()[0] for problem in found.problems) == [
        "snapshot",
        "stable/aarch64/manifest.json:",
        "targets",
        "timestamp",
    ]


def spoil_size(slot: Path) -> None:
    (slot / "vmlinuz").write_bytes(b"short")


def spoil_bytes(slot: Path) -> None:
    data = (slot / "root.squashfs").read_bytes()
    (slot / "root.squashfs").write_bytes(data[:-1] + b"?")


def spoil_manifest(slot: Path) -> None:
    (slot / "manifest.json").write_bytes(b"{}")


def lose_artifact(slot: Path) -> None:
    (slot / "initramfs.img").unlink()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_size, "is 5 bytes"),
        (spoil_bytes, "has SHA-256"),
        (spoil_manifest, "schema"),
        (lose_artifact, "cannot read .*initramfs.img"),
        (shutil.rmtree, "not a directory of slot files"),
    ],
)
def test_a_slot_that_contradicts_its_manifest_is_not_published(
    repository: Repository, slot: Path, spoil: Callable[[Path], None], words: str
) -> None:
    before = tree(repository.directory)
    spoil(slot)
    with pytest.raises(SlotFilesError, match=words):
        repository.publish(slot, channel="stable")
    assert tree(repository.directory) == before


@pytest.mark.parametrize(
    "wrong",
    [
        {"channel": "../up"},
        {"channel": ""},
        {"channel": "a/b"},
        {"channel": "stable", "min_compatible_version": "one"},
        {"channel": "stable", "overrides": Overrides(architecture_path="../x")},
    ],
)
def test_malformed_values_are_refused(
    repository: Repository, slot: Path, wrong: dict[str, Any]
) -> None:
    before = tree(repository.directory)
    with pytest.raises(RepositoryError, match="malformed"):
        repository.publish(slot, **wrong)
    assert tree(repository.directory) == before


def test_a_file_that_changes_after_publishing_shows(repository: Repository, slot: Path) -> None:
    published = repository.publish(slot, channel="stable")
    kernel = published.manifest.artifact("vmlinuz")
    file = repository.directory / "artifacts" / kernel.sha256
    data = file.read_bytes()
    file.write_bytes(data[:-1] + b"?")
    (problem,) = report(repository).problems
    assert "vmlinuz" in problem
    # Publishing again mends it.
    repository.publish(slot, channel="stable")
    assert report(repository).problems == ()


@pytest.mark.parametrize("name", ["timestamp.json", "2.snapshot.json", "2.targets.json"])
def test_tampered_metadata_is_never_signed_anew(
    repository: Repository, slot: Path, name: str
) -> None:
    repository.publish(slot, channel="stable")
    file = repository.metadata / name
    document = json.loads(file.read_text())
    document["signed"]["expires"] = "2099-01-01T00:00:00Z"
    file.write_text(json.dumps(document))
    with pytest.raises(RepositoryError):
        repository.refresh()


def test_an_existing_repository_is_not_made_again(
    repository: Repository, keys: KeyDirectory
) -> None:
    before = tree(repository.directory)
    with pytest.raises(RepositoryError, match="already holds"):
        Repository.create(repository.directory, keys)
    assert tree(repository.directory) == before


def test_a_threshold_above_the_keys_is_refused(tmp_path: Path, keys: KeyDirectory) -> None:
    with pytest.raises(RepositoryError, match="threshold of 2"):
        Repository.create(tmp_path / "r", keys, thresholds={"targets": 2})
    with pytest.raises(RepositoryError, match="no role 'mirror'"):
        Repository.create(tmp_path / "r", keys, thresholds={"mirror": 1})
    assert not (tmp_path / "r/metadata/1.root.json").exists()


def test_two_publishers_at_once_exclude_each_other(repository: Repository, slot: Path) -> None:
    with (
        exclusive(repository.directory),
        pytest.raises(RepositoryError, match="another process"),
    ):
        repository.publish(slot, channel="stable")


def test_artifacts_are_files_of_their_own_that_a_web_server_can_read(
    repository: Repository, slot: Path
) -> None:
    (slot / "vmlinuz").chmod(0o600)
    published = repository.publish(slot, channel="stable")
    for artifact in published.manifest.artifacts:
        file = repository.directory / "artifacts" / artifact.sha256
        assert file.stat().st_mode & 0o777 == 0o644
        assert not file.samefile(slot / artifact.name)
        # A build in place writes the same file anew.
        with (slot / artifact.name).open("r+b") as stream:
            stream.write(b"another build")
    assert report(repository).problems == ()
    assert all(
        path.stat().st_mode & 0o444 == 0o444
        for path in repository.directory.rglob("*")
        if path.is_file()
    )


@pytest.mark.parametrize("call", ["refresh", "rotate"])
def test_unknown_roles_are_refused(repository: Repository, call: str) -> None:
    with pytest.raises(ReleaseError, match="roles are root"):
        repository.refresh(roles=["mirror"]) if call == "refresh" else repository.rotate("mirror")
