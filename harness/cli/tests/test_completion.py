"""Shells complete commands, options and known values."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from harness.cli.tests.command import harness


def completed(tmp_path: Path, *words: str) -> set[str]:
    """What bash offers for the last of ``words``."""
    script = tmp_path / "harness.bash"
    script.write_text(harness("completion", "bash", cwd=tmp_path).stdout)
    line = " ".join(f"'{word}'" for word in words)
    code = f"source {script}; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _harness; "
    done = subprocess.run(
        ["bash", "-c", code + 'printf "%s\\n" "${COMPREPLY[@]}"'],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("",), {"run", "list", "console", "pack", "replay", "flakes", "completion"}),
        (("li",), {"list"}),
        (("list", "--j"), {"--json"}),
        (("cache", "pr"), {"prune"}),
        (("cache", "prune", "--d"), {"--dry-run"}),
        (("boot", "x.img", "--arch", ""), {"x86_64", "aarch64"}),
        (("replay", "--t"), {"--to", "--timeline"}),
        (("console", "--g"), {"--go-on"}),
        (("flakes", "--"), {"--runs", "--load", "--resume", "--history"}),
        (("completion", ""), {"bash", "zsh", "fish"}),
    ],
)
def test_bash(tmp_path: Path, words: tuple[str, ...], offered: set[str]) -> None:
    assert offered <= completed(tmp_path, "harness", *words)


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_take_their_scripts(tmp_path: Path, shell: str) -> None:
    made = harness("completion", shell, cwd=tmp_path)
    assert made.returncode == 0
    assert "prune" in made.stdout
    if shutil.which(shell) is None:
        pytest.skip(f"this host has no {shell}")
    (tmp_path / "script").write_text(made.stdout)
    subprocess.run([shell, "-n", str(tmp_path / "script")], check=True)


def test_an_unknown_shell_is_a_mistake(tmp_path: Path) -> None:
    done = harness("completion", "tcsh", cwd=tmp_path)
    assert done.returncode == 2
    assert "tcsh" in done.stderr
