"""``run`` and ``list`` in a project of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cli.tests.command import harness

TESTS = """
import pytest
from harness.pytest_plugin.scenario import scenario

@scenario(tier="core", core_arch="aarch64")
def test_boots(harness_arch):
    "It boots."
    assert harness_arch == "x86_64"

@pytest.mark.needs("bios", "lying-cache")
@scenario()
def test_bios(harness_arch):
    pass

@pytest.mark.parametrize("size", [1, 2])
@scenario(arch="aarch64", backend={"qemu"}, firmware="uefi")
def test_sizes(harness_arch, size):
    pass

def test_unit():
    pass
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider\n")
    return tmp_path


def test_the_list_has_tier_architectures_and_abilities(project: Path) -> None:
    shown = harness("list", cwd=project)
    assert shown.returncode == 0, shown.stderr
    rows = [
        [cell.strip() for cell in line.split("  ") if cell] for line in shown.stdout.split("\n")
    ]
    assert ["core on aarch64", "x86_64, aarch64", "-", "test_it.py::test_boots"] in rows
    assert ["full", "x86_64", "bios, lying-cache", "test_it.py::test_bios"] in rows
    assert ["full", "aarch64", "uefi, qemu alone", "test_it.py::test_sizes[1]"] in rows
    assert "4 of 4 scenarios" in shown.stdout
    assert "test_unit" not in shown.stdout


def test_words_filter_the_list(project: Path) -> None:
    shown = harness("list", "FULL", "lying", "--json", cwd=project)
    [one] = json.loads(shown.stdout)
    assert one["test"] == "test_it.py::test_bios"
    assert one["needs"] == ["bios", "lying-cache"]


def test_what_cannot_be_collected_is_one_error(project: Path) -> None:
    (project / "test_it.py").write_text("import nowhere_at_all\n")
    shown = harness("list", cwd=project)
    assert shown.returncode == 1
    assert "error: pytest cannot collect the scenarios" in shown.stderr
    assert "No module named 'nowhere_at_all'" in shown.stderr
    assert "runpy" not in shown.stderr


def test_run_takes_scenarios_alone_unless_told(project: Path) -> None:
    done = harness("run", "--arch", "x86_64", "-v", "-k", "boots or unit", cwd=project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_boots[x86_64] PASSED" in done.stdout
    assert "test_unit" not in done.stdout
    named = harness("run", "test_it.py", "-q", "-k", "test_unit", cwd=project)
    assert "1 passed" in named.stdout


def test_run_ends_with_pytests_status(project: Path) -> None:
    done = harness("run", "--arch", "aarch64", "-k", "boots", cwd=project)
    assert done.returncode == 1
    assert "step:      test_it.py:8: assert" in done.stdout
