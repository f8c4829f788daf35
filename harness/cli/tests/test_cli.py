"""A user's mistake at the command line is one error with its reason, never a traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("arguments", "status", "reason"),
    [
        (["boot", "/nonexistent.img", "--arch", "x86_64"], 1, "error: there is no disk image"),
        (["boot", "IMAGE", "--arch", "sparc"], 2, "'sparc'"),
        (["boot", "IMAGE"], 2, "--arch"),
        (["boot", "IMAGE", "--arch", "aarch64", "--firmware", "bios"], 1, "no bios firmware"),
        (["boot", "IMAGE", "--arch", "x86_64", "--memory", "1"], 1, "greater than or equal"),
        (["probe", "/nonexistent", "--arch", "x86_64"], 1, "error: there is no kernel"),
        (["dance"], 2, "dance"),
    ],
)
def test_mistakes(tmp_path: Path, arguments: list[str], status: int, reason: str) -> None:
    image = tmp_path / "disk.img"
    image.touch()
    command = [str(image) if word == "IMAGE" else word for word in arguments]
    run = subprocess.run(
        [sys.executable, "-m", "harness", *command],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path), "COLUMNS": "200"},
    )
    assert run.returncode == status, run.stderr
    assert reason in run.stderr
    assert "Traceback" not in run.stderr
