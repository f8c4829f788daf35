"""The files by which forges make a release."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from product.image.cache import Cache, digest_of
from product.image.golang.modules import GoModule
from product.image.tools import host_arch

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github/workflows/release.yml"
GITEA = ROOT / ".gitea/workflows/release.yml"
CHECKER = "github.com/rhysd/actionlint/cmd/actionlint"
# Gitea has no artifacts of the later kind, so that a pattern cannot name them, and no runners of
# its own for aarch64.
_OTHER = (
    ("actions/upload-artifact@v4", "actions/upload-artifact@v3"),
    ("actions/download-artifact@v4", "actions/download-artifact@v3"),
    ("          pattern: report-*\n", ""),
    ("'ubuntu-24.04-arm'", "'linux-arm64'"),
    ("'ubuntu-24.04'", "'ubuntu-latest'"),
    (".github/workflows/release.yml", ".gitea/workflows/release.yml"),
    (
        "# .gitea/workflows/release.yml is this file with other names of actions; a test compares "
        "them.\n",
        "# Made from .github/workflows/release.yml; a test compares them.\n",
    ),
)


def for_gitea(text: str) -> str:
    """What Gitea's file must be where GitHub's is ``text``."""
    head = _OTHER[-1]
    assert text.count(head[0]) == 1
    text = text.replace(*head)
    first, line, rest = text.partition(head[1])
    for old, new in _OTHER[:-1]:
        assert old in rest, old
        rest = rest.replace(old, new)
    return first + line + rest


def jobs(path: Path = GITHUB) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text())["jobs"]
    return found


def test_gitea_has_the_same() -> None:
    assert GITEA.read_text() == for_gitea(GITHUB.read_text())


@pytest.mark.parametrize("path", [GITHUB, GITEA], ids=["github", "gitea"])
def test_a_tag_alone_starts_it_and_no_secret_is_asked_for(path: Path) -> None:
    text = path.read_text()
    document = yaml.safe_load(text)
    # YAML 1.1 takes the key "on" for true.
    assert document[True] == {"push": {"tags": ["v*"]}}
    assert document["permissions"] == {"contents": "read"}
    assert not [job for job in document["jobs"].values() if "permissions" in job]
    assert "secrets." not in text
    # What an outsider may name never becomes part of a script.
    scripts = [
        step["run"] for job in document["jobs"].values() for step in job["steps"] if "run" in step
    ]
    said = re.findall(r"\$\{\{ *(.*?) *\}\}", "\n".join(scripts))
    assert set(said) == {"matrix.arch", "matrix.suite"}


@pytest.mark.parametrize("path", [GITHUB, GITEA], ids=["github", "gitea"])
def test_what_is_published_was_tested(path: Path) -> None:
    found = jobs(path)
    assert set(found) == {"fresh", "matrix", "lab", "publish"}
    assert set(found["publish"]["needs"]) == {"fresh", "matrix", "lab"}
    assert found["publish"]["if"] == "${{ !failure() && !cancelled() }}"
    assert found["lab"]["if"] == "vars.KUBESOLO_LAB == 'true'"
    assert found["lab"]["runs-on"] == ["self-hosted", "lab"]
    assert found["publish"]["runs-on"] == ["self-hosted", "publisher"]
    table = found["matrix"]["strategy"]["matrix"]
    assert table["arch"] == ["x86_64", "aarch64"]
    suites = {path.parent.name for path in ROOT.glob("scenarios/*/test_*.py")} - {"tests"}
    assert sorted(table["suite"]) == sorted(suites)
    [publish] = [step for step in found["publish"]["steps"] if step.get("name") == "Publish"]
    assert "--matrix out/reports" in publish["run"]
    assert "without-matrix" not in path.read_text()


def test_the_commands_are_ones_that_there_are() -> None:
    from product.publish.command import main

    [publish] = [step for step in jobs()["publish"]["steps"] if step.get("name") == "Publish"]
    options = re.findall(r" (--[a-z-]+) ", publish["run"].partition("-s publish -- ")[2])
    assert options == ["--channel", "--matrix", "--keys", "--repository", "--output"]
    assert main(["--help"]) == 0
    sessions = re.findall(r"\./noxw -s ([a-z ]+)", GITHUB.read_text())
    declared = re.findall(r"^def ([a-z]+)\(session", (ROOT / "noxfile.py").read_text(), re.M)
    assert {word for words in sessions for word in words.split()} <= set(declared)


@pytest.fixture(scope="module")
def actionlint() -> Path:
    """The checker, built by the locked toolchain once."""
    cache, module = Cache(), GoModule(ROOT / "fixtures/actionlint")

    def make(tree: Path) -> None:
        module.build(cache, host_arch(), CHECKER, tree / "actionlint", what="actionlint")

    return cache.tree("actionlint", digest_of(module.digest, host_arch()), make) / "actionlint"


def check(actionlint: Path, *files: Path) -> str:
    """What the checker says of workflows and of the shell in them."""
    shellcheck = Path(sys.executable).with_name("shellcheck")
    done = subprocess.run(
        [
            actionlint, "-no-color", "-shellcheck", shellcheck, "-pyflakes", "",
            "-config-file", ROOT / ".github/actionlint.yaml", *files,
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


def test_the_files_are_as_the_forge_reads_them(actionlint: Path, tmp_path: Path) -> None:
    assert check(actionlint, *sorted(ROOT.glob(".github/workflows/*.yml"))) == ""
    text = GITHUB.read_text()
    for old, new, words in (
        ("needs: [fresh,", "needs: [frsh,", 'needs job "frsh"'),
        ("vars.KUBESOLO_LAB ==", "var.KUBESOLO_LAB ==", 'undefined variable "var"'),
        ("matrix.suite }}\n      - uses", "matrix.suit }}\n      - uses", '"suit" is not defined'),
        ('--version "$version"', "--version $version", "SC2086"),
    ):
        assert old in text
        broken = tmp_path / "broken.yml"
        broken.write_text(text.replace(old, new, 1))
        assert words in check(actionlint, broken)
