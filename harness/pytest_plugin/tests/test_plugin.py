"""Which tests run on which machines, and what is skipped with which reason."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.pytest_plugin.scenario import scenario
from harness.pytest_plugin.summary import summary

TESTS = """
import pytest
from harness.qemu.arch import Arch
from harness.pytest_plugin.scenario import scenario

def test_everywhere(harness_arch): assert isinstance(harness_arch, Arch)

@pytest.mark.arch("aarch64")
def test_arm(harness_arch): assert harness_arch == "aarch64"

@scenario(arch="x86_64")
def test_decorated(harness_arch): assert harness_arch == "x86_64"

@pytest.mark.needs("itco")
@scenario()
def test_watchdog(harness_arch): pass

@pytest.mark.needs("bios", "uefi")
@scenario()
def test_firmware(harness_arch): pass

@pytest.mark.needs("itco")
def test_no_scenario(harness_arch): pass

@scenario(backend={"lab"})
def test_lab(): pass

@pytest.mark.parametrize("arch", ["mine"])
def test_own(arch): assert arch == "mine"

@pytest.mark.parametrize(("one", "arch"), [(1, "mine")])
def test_own_of_two(one, arch): assert arch == "mine"

def test_none(): pass

@pytest.mark.machine(cpus=2)
def test_no_machine(): pass

@scenario(cpus=2)
def test_several(): pass
"""


def run(tmp_path: Path, *options: str) -> list[str]:
    (tmp_path / "test_selection.py").write_text(TESTS)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "harness.pytest_plugin",
        "-p",
        "no:cacheprovider",
    ]
    result = subprocess.run(
        [*command, "--rootdir", str(tmp_path), "-v", "-rs", *options, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path), "COLUMNS": "200"},
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout.splitlines()


def outcomes(lines: list[str]) -> dict[str, str]:
    found = {}
    for line in lines:
        if "::" in line and line.split()[1:2] and line.split()[1] in ("PASSED", "SKIPPED"):
            found[line.split()[0].partition("::")[2]] = line.split()[1]
    return found


def test_all_architectures(tmp_path: Path) -> None:
    lines = run(tmp_path)
    assert outcomes(lines) == {
        "test_everywhere[x86_64]": "PASSED",
        "test_everywhere[aarch64]": "PASSED",
        "test_arm[aarch64]": "PASSED",
        "test_decorated[x86_64]": "PASSED",
        "test_watchdog[x86_64]": "PASSED",
        "test_watchdog[aarch64]": "SKIPPED",
        "test_firmware[x86_64]": "PASSED",
        "test_firmware[aarch64]": "SKIPPED",
        "test_lab": "SKIPPED",
        "test_own[mine]": "PASSED",
        "test_own_of_two[1-mine]": "PASSED",
        "test_no_scenario[x86_64]": "PASSED",
        "test_no_scenario[aarch64]": "PASSED",
        "test_none": "PASSED",
        "test_no_machine": "PASSED",
        "test_several": "PASSED",
    }
    order = list(outcomes(lines))
    assert order.index("test_several") < order.index("test_lab")
    # Many processors are no reason to move what is no scenario.
    assert order.index("test_none") < order.index("test_no_machine")
    text = "\n".join(lines)
    assert "aarch64 machines have no itco" in text
    assert "aarch64 machines have no bios" in text
    assert "needs one of ['lab'], this is qemu" in text


def test_one_architecture(tmp_path: Path) -> None:
    found = outcomes(run(tmp_path, "--arch", "aarch64"))
    assert found["test_everywhere[aarch64]"] == "PASSED"
    assert "test_everywhere[x86_64]" not in found
    assert not [name for name in found if "x86_64" in name and found[name] == "PASSED"]


def test_an_unknown_backend_is_a_mistake_at_once() -> None:
    with pytest.raises(ValueError, match="cloud"):
        scenario(backend={"cloud"})


def test_the_summary_says_how_slow_the_host_was() -> None:
    figures = {"seconds": 10.0, "guest_seconds": 8.0, "cpu_seconds": 9.0, "overhead_seconds": 0.5}
    first = {**figures, "test": "one", "arch": "x86_64", "accelerator": "tcg", "host_scale": 1.27}
    second = {**first, "test": "two", "arch": "aarch64", "host_scale": 1.4, "overhead_seconds": 0.1}
    said, host = summary([first, second])
    assert said.startswith("2 scenarios, 20.0 s, of which guests 16.0 s with 18.0 s of processors")
    assert said.endswith("300 ms on average, at most 500 ms (one)")
    assert host.endswith("scaled by: aarch64 tcg 1.40, x86_64 tcg 1.27")
