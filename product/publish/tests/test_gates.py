"""What keeps a release from being made, each thing alone."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from product.current import VERSION
from product.image import drift
from product.image.media.kinds import Kind
from product.image.recipe import Arch
from product.image.tools import IMAGES
from product.publish.artefacts import Target
from product.publish.gates import Examined, examine
from product.publish.provenance import LOCAL_BUILDER
from product.publish.request import Request
from product.release.downloads import sums_text
from product.release.keys import KeyDirectory
from product.release.repository import Repository
from product.release.sshsig import sign
from product.release.storage import sha256_file
from product.release.tests.slotfiles import make_slot

Change = Callable[[Request], Request | None]


def git(root: Path, *words: str) -> str:
    command = ["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@example.com"]
    return subprocess.run(
        [*command, *words], check=True, capture_output=True, text=True
    ).stdout.strip()


def write_report(request: Request, **changes: Any) -> None:
    now = datetime.now(UTC).isoformat()
    document = {
        "id": "whole",
        "commit": git(request.root, "rev-parse", "HEAD"),
        "dirty": False,
        "started": now,
        "ended": now,
        "host": "Linux",
        "tier": "full",
        "architectures": ["x86_64", "aarch64"],
        "paths": ["scenarios"],
        "passed": ["scenarios/boot/test_one.py::test[x86_64]"],
    }
    [path] = request.matrix
    path.write_text(json.dumps({**document, **changes}))


@pytest.fixture
def request_(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Request:
    """A release for stable from which nothing is missing."""
    # Whoever runs the tests may allow it to all of them.
    monkeypatch.delenv(drift.VARIABLE, raising=False)
    root = tmp_path / "checkout"
    (root / "scenarios/boot").mkdir(parents=True)
    (root / "scenarios/boot/test_one.py").write_text("@scenario()\n")
    (root / "CHANGELOG.md").write_text(f"# Changelog\n\n## [{VERSION}] - 2026-12-02\n- All.\n")
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "First")
    git(root, "tag", f"v{VERSION}")
    keys = KeyDirectory.generate(tmp_path / "keys", {"downloads": 1})
    Repository.create(tmp_path / "repository", keys)
    request = Request(
        root=root,
        version=VERSION,
        channel="stable",
        recipe=IMAGES / "appliance.toml",
        targets=(Target(Arch.X86_64), Target(Arch.AARCH64)),
        kinds=(Kind.DISK,),
        output=tmp_path / "out",
        repository=tmp_path / "repository",
        keys=tmp_path / "keys",
        builder=LOCAL_BUILDER,
        matrix=(tmp_path / "report.json",),
        matrix_days=7,
    )
    write_report(request)
    return request


def missing(seen: Examined) -> list[str]:
    return [f"{finding.gate}: {finding.found}" for finding in seen.findings if not finding.good]


def test_nothing_is_missing(request_: Request) -> None:
    seen = examine(request_)
    assert missing(seen) == []
    assert seen.previous is None


def _dirty(request: Request) -> None:
    (request.root / "CHANGELOG.md").write_text(f"## [{VERSION}]\n- Other.\n")


def _untracked(request: Request) -> None:
    (request.root / "new.py").touch()


def _untagged(request: Request) -> None:
    git(request.root, "tag", "-d", f"v{VERSION}")


def _unsaid(request: Request) -> None:
    (request.root / "CHANGELOG.md").write_text("## [Unreleased]\n- All.\n")
    git(request.root, "commit", "-qam", "Second")


def _no_key(request: Request) -> None:
    (request.keys / "snapshot.pem").unlink()


def _no_downloads_key(request: Request) -> None:
    (request.keys / "downloads.pem").unlink()


def _shown_key(request: Request) -> None:
    (request.keys / "downloads.pem").chmod(0o644)


def _serve(version: str) -> Change:
    def change(request: Request) -> None:
        slot = make_slot(request.root.parent / version, version)
        repository = Repository.open(request.repository, KeyDirectory(request.keys))
        repository.publish(slot, channel=request.channel)

    return change


def _other_output(request: Request) -> None:
    request.output.mkdir()
    (request.output / "kubesolo-os-0.0.1-x86_64.img").touch()


def _report(**changes: Any) -> Change:
    return lambda request: write_report(request, **changes)


def _next(**changes: Any) -> Change:
    return lambda request: replace(request, **changes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_dirty, "checkout: 1 files differ"),
        (_untracked, "checkout: 1 files differ"),
        (_untagged, "tag: the commit must have"),
        (_unsaid, "changelog: "),
        (_no_key, "keys: .* no key of snapshot"),
        (_no_downloads_key, "keys: .* no key that signs downloads"),
        (_shown_key, "keys: .* mode 0644"),
        (_serve("99.0.0"), "channel: .* serves 99.0.0"),
        (_serve(VERSION), f"channel: .* serves {VERSION}, and {VERSION} is not newer"),
        (_other_output, "output: .* no part of this release"),
        (_report(failed={"scenarios/a.py::test": "x"}), "matrix: .*failed"),
        (_report(dirty=True), "matrix: .*not committed"),
        (_report(paths=["scenarios/network"]), "matrix: .*did not run on aarch64"),
        (_report(commit="0" * 40), "matrix: .*of commit 0000"),
        (_serve("0.0.1"), "matrix: the update from the release before, 0.0.1, did not run"),
        (_next(without_matrix="no time"), "matrix: .*never made without"),
        (_next(version="0.1.1"), "version: 0.1.1 is to be released, and this checkout is"),
        (_next(version=f"{VERSION}-rc.1"), "version: .*this checkout is"),
        (_next(version="dev"), "version: dev"),
        (_next(version="1.02.3"), "version: '1.02.3' is not a version"),
        (_next(version=f"v{VERSION}"), "version: .*without v"),
        (_next(repository=Path("/nowhere")), "channel: /nowhere is not a release repository"),
        (_next(keys=Path("/nowhere")), "keys: there is no key directory"),
        (_next(root=Path("/nowhere")), "checkout: git cannot read"),
        (_next(matrix=(Path("/nowhere"),)), "matrix: /nowhere cannot be read"),
        (_next(previous="99.0.0"), "previous: .*not older"),
        (_next(previous="yesterday"), "previous: 'yesterday' is not a version"),
        (_next(allow_drift=True), "recipe: packages other than the locked"),
    ],
)
def test_one_thing_is_missing(
    request_: Request, change: Change, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBESOLO_ALLOW_DRIFT", raising=False)
    import re

    request = change(request_) or request_
    found = missing(examine(request))
    assert any(re.match(words, line) for line in found), found


def test_another_channel_needs_less_and_keeps_the_reason(request_: Request) -> None:
    _untagged(request_)
    _unsaid(request_)
    beta = replace(
        request_, channel="beta", version=f"{VERSION}-rc.1", without_matrix="a first try"
    )
    assert missing(examine(beta)) == []
    git(request_.root, "tag", "v9.9.9")
    assert missing(examine(beta))[0].startswith("tag: ")
    assert missing(examine(replace(beta, without_matrix=" ")))[-1].startswith("matrix: ")


def test_the_release_before_is_what_is_served_or_a_folder(request_: Request) -> None:
    _serve("0.0.1")(request_)
    assert examine(request_).previous == "0.0.1"
    folder = request_.root.parent / "before"
    folder.mkdir()
    about = folder / "release.json"
    about.write_text(json.dumps({"version": "0.0.2"}))
    from product.release.downloads import signing_key

    sums = sums_text({"release.json": sha256_file(about)})
    (folder / "SHA256SUMS").write_text(sums)
    key = signing_key(KeyDirectory(request_.keys))
    (folder / "SHA256SUMS.sig").write_text(sign(key, sums.encode()))
    chosen = replace(request_, previous=str(folder))
    assert examine(chosen).previous == "0.0.2"
    about.write_text(json.dumps({"version": "0.0.3"}))
    assert any(line.startswith("previous: ") for line in missing(examine(chosen)))


def test_looking_changes_nothing(request_: Request) -> None:
    def state() -> dict[str, bytes]:
        folder = request_.root.parent
        return {
            str(path): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file() and ".git" not in path.parts
        }

    before = state()
    examine(request_)
    assert state() == before
    assert not request_.output.exists()
