"""What takes long is told while it runs, although pytest keeps what tests print."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

LIMIT = 60.0

TEST = """
import time
from pathlib import Path
import pytest
from product.image import progress

@pytest.fixture(scope="session")
def image(builds_shown):
    with progress.step("compile Kubernetes"):
        progress.note("250 packages compiled")
        until = time.monotonic() + 30
        while not Path(%r).exists():
            assert time.monotonic() < until, "nobody saw it"
            time.sleep(0.05)

def test_with_an_image(image):
    print("kept by pytest")
"""


@pytest.mark.parametrize("options", [[], ["-q"], ["-n", "1"], ["-s"], ["--capture=sys"]])
def test_a_long_build_under_pytest_is_seen_before_it_ends(
    tmp_path: Path, options: list[str]
) -> None:
    seen = tmp_path / "seen"
    (tmp_path / "test_build.py").write_text(TEST % str(seen))
    plugins = ["-p", "scenarios.live", "-p", "no:cacheprovider"]
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *plugins, *options, "--rootdir", tmp_path, tmp_path],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)},
    )
    timer = threading.Timer(LIMIT, process.kill)
    timer.start()
    lines = []
    assert process.stderr is not None
    with process.stderr:
        for line in process.stderr:
            lines.append(line)
            if "250 packages compiled" in line:
                seen.touch()
    timer.cancel()
    text = "".join(lines)
    assert process.wait() == 0, text
    assert "\n> compile Kubernetes\n  250 packages compiled" in text
    assert "compile Kubernetes: " in text
    if options != ["-s"]:
        assert "kept by pytest" not in text
