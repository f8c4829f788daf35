"""The tutorial of the harness: somebody else's system, tested with what a wheel installs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "docs/examples/debian-cloud"
TUTORIAL = (ROOT / "docs/harness/tutorial.md").read_text()
# A machine waits for its turn, and is emulated.
LIMIT = 5400


def blocks(info: str) -> list[str]:
    return re.findall(rf"^```{info}\n(.*?)^```$", TUTORIAL, re.MULTILINE | re.DOTALL)


def test_every_command_runs_far_from_the_checkout(tmp_path: Path) -> None:
    ignore = shutil.ignore_patterns(".git", "build", "out", "*.egg-info", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, tmp_path / "kubesolo-os", symlinks=True, ignore=ignore)
    [commands] = blocks("sh tutorial")
    *before, last = commands.splitlines()
    # Nothing of the checkout is left when the tests run.
    script = "\n".join([*before, "rm -rf ../kubesolo-os", f"{last} -v"])
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        ["/bin/sh", "-e", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**environment, "KUBESOLO_ALLOW_DRIFT": "1"}, timeout=LIMIT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    assert "run again: " not in done.stdout
    evidence = tmp_path / "my-system/out/scenarios"
    assert (evidence / "report.html").is_file()
    logs = list(evidence.glob("*/node/console.log"))
    assert len(logs) == 2
    assert any("debian-cloud: ready version=13" in path.read_text() for path in logs)


@pytest.mark.parametrize("block", blocks("python"))
def test_the_tutorial_shows_what_the_example_says(block: str) -> None:
    files = [path.read_text() for path in EXAMPLE.glob("*.py")]
    assert any(block in text for text in files), block
