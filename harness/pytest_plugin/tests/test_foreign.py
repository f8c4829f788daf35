"""What the plugin does to a project that has no scenarios, and to one whose profile is wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

THEIRS = """
import pytest

@pytest.fixture
def node():
    return "theirs"

@pytest.fixture
def session():
    return "theirs"

@pytest.mark.parametrize("arch", ["z80", "6502"])
def test_b(node, session, arch):
    assert (node, session) == ("theirs", "theirs")

@pytest.mark.machine(cpus=4)
@pytest.mark.needs("floppy")
def test_a():
    pass

def test_breaks():
    raise KeyError("theirs")
"""

MINE = """
from harness.pytest_plugin.scenario import scenario

@scenario(arch="x86_64")
def test_node(harness_node):
    pass

def test_other():
    pass
"""


def run(tmp_path: Path, tests: str, *options: str) -> str:
    (tmp_path / "test_it.py").write_text(tests)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-p", "harness.pytest_plugin", "-p",
         "no:cacheprovider", "--rootdir", str(tmp_path), *options, "test_it.py"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path), "COLUMNS": "200"},
    )  # fmt: skip
    return done.stdout + done.stderr


def test_tests_of_others_run_as_they_do_without_it(tmp_path: Path) -> None:
    printed = run(tmp_path, THEIRS)
    lines = [line.split()[:2] for line in printed.splitlines() if "::" in line and "%]" in line]
    assert lines == [
        ["test_it.py::test_b[z80]", "PASSED"],
        ["test_it.py::test_b[6502]", "PASSED"],
        ["test_it.py::test_a", "PASSED"],
        ["test_it.py::test_breaks", "FAILED"],
    ], printed
    assert "raise KeyError" in printed
    assert "scenarios" not in printed
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] in ([], ["__pycache__"])


def test_a_scenario_without_an_image_says_what_to_write(tmp_path: Path) -> None:
    printed = run(tmp_path, MINE)
    assert "write a fixture harness_images in conftest.py" in printed
    assert "test_other PASSED" in printed


def test_a_profile_that_is_not_there_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nharness_profile = nowhere:NONE\n")
    printed = run(tmp_path, MINE, "-c", str(tmp_path / "pytest.ini"))
    assert "harness_profile: the profile nowhere:NONE cannot be imported" in printed
    assert "Traceback" not in printed
    assert "INTERNALERROR" not in printed


def test_an_architecture_without_an_image_is_skipped_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        "import pytest\n@pytest.fixture\ndef harness_images():\n    return {'aarch64': None}\n"
    )
    printed = run(tmp_path, MINE, "-rs")
    assert "test_node[x86_64] SKIPPED" in printed
    assert "harness_images has no image for x86_64" in printed
