"""Runs the command line as a user does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def harness(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """``python -m harness`` in a folder, with nothing of this test's environment."""
    path = {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path), "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-m", "harness", *words], cwd=cwd, capture_output=True, text=True,
        check=False, stdin=subprocess.DEVNULL, env={**path, **environment},
    )  # fmt: skip
