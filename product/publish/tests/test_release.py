"""A release of a small image by the real command, cut off and taken up again."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

import product.current
from product.release.keys import KeyDirectory
from product.release.repository import Repository
from product.release.state import read_state
from product.release.verify import verify

ROOT = Path(__file__).parents[3]
HANDBOOK = (ROOT / "docs/publishing.md").read_text()
# The handbook's.
VERSION = "1.4.0"
CANDIDATE = f"{VERSION}-rc.1"
DISK = f"kubesolo-os-{CANDIDATE}-x86_64.img.zst"


class Publisher:
    """A clean checkout of what lies here, keys and an empty repository."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checkout = folder / "checkout"
        self._copy()
        KeyDirectory.generate(folder / "keys", {"downloads": 1})
        self.new_repository("repository")

    def new_repository(self, name: str) -> Path:
        keys = KeyDirectory(self.folder / "keys")
        return Repository.create(self.folder / name, keys).directory

    def git(self, *words: str) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@example.com", *words]
        return subprocess.run(
            command, cwd=self.checkout, check=True, capture_output=True, text=True
        ).stdout.strip()

    def command(self, output: str, *more: str, channel: str = "dev", repository: str) -> list[str]:
        return [
            sys.executable, "-m", "product.publish", "--version", CANDIDATE, "--channel", channel,
            "--recipe", "appliance", "--arch", "x86_64", "--hardware", "none", "--media", "disk",
            "--keys", "keys", "--repository", repository, "--output", output, *more,
        ]  # fmt: skip

    def start(self, words: Sequence[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            words,
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(self.checkout), "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, words: Sequence[str], status: int = 0) -> str:
        with self.start(words) as process:
            said = process.communicate()[0]
        assert process.returncode == status, said
        assert "Traceback" not in said
        return said

    def cut(self, words: Sequence[str], mark: str) -> bool:
        """Kill it as soon as it says ``mark``; whether it came to that."""
        with self.start(words) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.strip().startswith(mark):
                    os.killpg(process.pid, signal.SIGKILL)
                    return True
        return False

    def _copy(self) -> None:
        names = subprocess.run(
            ["git", "-C", ROOT, "ls-files", "-z", "-co", "--exclude-standard"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split("\0")
        for name in filter(None, names):
            source, target = ROOT / name, self.checkout / name
            if source.is_symlink() or source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target, follow_symlinks=False)
        changelog = self.checkout / "CHANGELOG.md"
        changelog.write_text(f"# Changelog\n\n## [{VERSION}]\n- The first one.\n")
        current = self.checkout / "product/current.py"
        text = current.read_text()
        assert text.count(f'VERSION = "{product.current.VERSION}"') == 1
        current.write_text(text.replace(product.current.VERSION, VERSION))
        self.git("init", "-q")
        self.git("add", "-A")
        self.git("commit", "-qm", "All")


TRIED = ("--without-matrix", "tried out")


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory) -> Publisher:
    return Publisher(tmp_path_factory.mktemp("publisher"))


@pytest.fixture(scope="module")
def whole(publisher: Publisher) -> Path:
    """A release that nothing interrupted."""
    publisher.run(publisher.command("whole", *TRIED, repository="repository"))
    return publisher.folder / "whole"


def content(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.is_file()
    }


def served(repository: Path) -> dict[str, str]:
    targets = read_state(repository).targets.targets
    return {path: target.custom["version"] for path, target in targets.items()}


def test_everything_is_there_and_verifies(publisher: Publisher, whole: Path) -> None:
    names = {DISK, f"{DISK}.spdx.json", "notes.md", "release.json", "provenance.intoto.jsonl",
             "SHA256SUMS", "SHA256SUMS.sig", "allowed_signers"}  # fmt: skip
    assert set(content(whole)) == names
    assert (whole / "notes.md").read_text() == "- The first one.\n"
    assert served(publisher.folder / "repository") == {"dev/x86_64/manifest.json": CANDIDATE}
    assert not verify(publisher.folder / "repository").problems
    sbom = json.loads((whole / f"{DISK}.spdx.json").read_bytes())
    [image] = [one for one in sbom["packages"] if one["SPDXID"] == "SPDXRef-Image"]
    assert image["checksums"][0]["checksumValue"] == content(whole)[DISK]
    said = publisher.run(
        [
            sys.executable, "-m", "product.release", "verify-download", "whole",
            "--key", "keys/downloads.pub.pem",
        ]
    )  # fmt: skip
    assert publisher.git("rev-parse", "HEAD") in said
    assert "not tested  tried out" in said


def test_cut_off_anywhere_it_ends_with_the_same_bytes(publisher: Publisher, whole: Path) -> None:
    repository = publisher.new_repository("cut-repository")
    words = publisher.command("cut", *TRIED, repository="cut-repository")
    marks = ("> 1/6", "> 2/6", "2/6 disk", "> 3/6", "> 4/6", "> 5/6", "> 6/6", "6/6 repository")
    came = [publisher.cut(words, mark) for mark in marks]
    assert all(came), came
    # Nobody was served half of it, at whatever moment.
    assert not verify(repository).problems
    said = publisher.run(words)
    assert "5/6 sums: done already" in said
    assert content(publisher.folder / "cut") == content(whole)
    assert served(repository) == {"dev/x86_64/manifest.json": CANDIDATE}


def test_what_was_damaged_is_made_again(publisher: Publisher, whole: Path) -> None:
    before = content(whole)
    words = publisher.command("whole", *TRIED, repository="repository")
    with (whole / DISK).open("r+b") as stream:
        stream.seek(1000)
        stream.write(b"damage")
    said = publisher.run(words)
    assert "1/6 image x86_64: done already" in said
    assert "2/6 disk x86_64: done already" not in said
    assert "5/6 sums: done already" in said
    assert content(whole) == before


def test_a_dry_run_says_what_is_to_do_and_changes_nothing(publisher: Publisher) -> None:
    repository = publisher.new_repository("dry-repository")
    before = content(repository / "metadata")
    words = publisher.command("dry", "--dry-run", repository="dry-repository")
    said = publisher.run([*words, *TRIED])
    assert "to do    disk x86_64" in said
    said = publisher.run(words, status=1)
    assert "MISSING  matrix" in said
    assert not (publisher.folder / "dry").exists()
    assert content(repository / "metadata") == before


def test_a_step_that_fails_says_its_name_and_its_command(publisher: Publisher) -> None:
    repository = publisher.new_repository("locked-repository")
    words = publisher.command("locked", *TRIED, repository="locked-repository")
    (repository / "artifacts").write_text("in the way")
    said = publisher.run(words, status=1)
    assert "error: step repository x86_64: " in said
    assert "./noxw -s publish -- --version" in said
    assert "--only 'repository x86_64'" in said
    assert served(repository) == {}
    (repository / "artifacts").unlink()
    publisher.run([*words, "--only", "repository x86_64"])
    assert served(repository) == {"dev/x86_64/manifest.json": CANDIDATE}


def test_stable_takes_a_tag_and_the_matrix_of_this_commit(publisher: Publisher) -> None:
    repository = publisher.new_repository("stable-repository")
    words = publisher.command("stable", channel="stable", repository="stable-repository")
    words[words.index(CANDIDATE)] = VERSION
    report = publisher.checkout / "out" / "scenarios" / "report.json"
    report.parent.mkdir(parents=True)
    now = datetime.now(UTC).isoformat()
    document = {
        "id": "whole", "commit": publisher.git("rev-parse", "HEAD"), "dirty": False,
        "started": now, "ended": now, "host": "Linux", "tier": "full",
        "architectures": ["x86_64"], "paths": ["scenarios"], "passed": ["scenarios/a::b[x86_64]"],
    }  # fmt: skip
    report.write_text(json.dumps({**document, "failed": {"scenarios/a::c[x86_64]": "assert"}}))
    said = publisher.run(words, status=1)
    assert "MISSING  tag" in said
    assert "1 scenarios failed: scenarios/a::c[x86_64]" in said
    assert not (publisher.folder / "stable").exists()
    report.write_text(json.dumps(document))
    publisher.git("tag", f"v{VERSION}")
    try:
        publisher.run(words)
    finally:
        publisher.git("tag", "-d", f"v{VERSION}")
    assert served(repository) == {"stable/x86_64/manifest.json": VERSION}
    runs = json.loads((publisher.folder / "stable/matrix.json").read_bytes())["runs"]
    assert [run["id"] for run in runs] == ["whole"]


def blocks(kind: str) -> str:
    found = re.findall(rf"^```sh {kind}\n(.*?)^```$", HANDBOOK, re.MULTILINE | re.DOTALL)
    assert found
    return "".join(found)


def shell(publisher: Publisher, folder: Path, script: str) -> str:
    less = "--recipe appliance --arch x86_64 --hardware none --media disk"
    program = folder / "noxw"
    program.write_text(
        f'#!/bin/sh\nshift 3\nexec "{sys.executable}" -m product.publish "$@" {less}\n'
    )
    program.chmod(0o755)
    names = f"""set -eu
    kubesolo-release() {{ "{sys.executable}" -m product.release "$@"; }}
    """
    with subprocess.Popen(
        ["bash", "-c", names + script],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(publisher.checkout)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        said = process.communicate()[0]
    assert process.returncode == 0, said
    return said


def test_the_commands_of_the_handbook(publisher: Publisher, tmp_path: Path) -> None:
    place = tmp_path / "checkout"
    place.mkdir()
    shell(publisher, place, blocks("publish"))
    assert served(tmp_path / "repository") == {"beta/x86_64/manifest.json": CANDIDATE}
    made = place / "out" / CANDIDATE
    said = shell(publisher, made, blocks("download"))
    assert 'Good "file" signature for kubesolo-os' in said
    assert f"{DISK}: OK" in said
    assert f"as signed   {DISK}" in said
    with (made / DISK).open("ab") as stream:
        stream.write(b"more")
    with pytest.raises(AssertionError, match="FAILED"):
        shell(publisher, made, blocks("download"))
