"""The core tier: what runs in it, what it may cost, and how that is recorded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.pytest_plugin.scenario import scenario

TESTS = """
import pytest
from harness.pytest_plugin.scenario import scenario

@pytest.fixture(autouse=True)
def result(request, harness_arch):
    cost = 30.0 if "dear" in request.node.name else 10.0
    request.node.user_properties.append(("scenario", {
        "test": request.node.nodeid, "outcome": "passed", "cpu_seconds": cost, "seconds": 1.0,
        "guest_seconds": 1.0, "overhead_seconds": 0.1, "arch": str(harness_arch),
        "accelerator": "tcg", "host_scale": 1.0, "artefacts": "x",
    }))

@scenario(tier="core")
def test_both(harness_arch): pass

@scenario(tier="core", core_arch="aarch64")
def test_dear(harness_arch): pass

@scenario()
def test_full(harness_arch): pass
"""
BOTH = ("test_both[x86_64]", "test_both[aarch64]")
ALL = (
    *BOTH,
    "test_dear[x86_64]",
    "test_dear[aarch64]",
    "test_full[x86_64]",
    "test_full[aarch64]",
)


def run(folder: Path, *options: str, limit: int = 100) -> subprocess.CompletedProcess[str]:
    (folder / "test_tiers.py").write_text(TESTS)
    (folder / "pytest.ini").write_text(
        f"[pytest]\nscenario_cpu_file = cpu.json\ncore_cpu_seconds = {limit}\n"
    )
    command = [
        sys.executable, "-m", "pytest", "-p", "harness.pytest_plugin", "-p", "no:cacheprovider",
        "--rootdir", str(folder), "-c", str(folder / "pytest.ini"), "-v", *options,
        str(folder / "test_tiers.py"),
    ]  # fmt: skip
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=folder,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path), "COLUMNS": "200"},
    )  # fmt: skip


def passed(done: subprocess.CompletedProcess[str]) -> set[str]:
    lines = [line for line in done.stdout.splitlines() if "PASSED" in line]
    return {word.partition("::")[2] for line in lines for word in line.split() if "::" in word}


def keep(folder: Path, seconds: float, *names: str) -> None:
    costs = {f"test_tiers.py::{name}": seconds for name in names}
    (folder / "cpu.json").write_text(json.dumps(costs))


@pytest.mark.parametrize("workers", ["0", "2"])
def test_the_core_is_what_asked_to_be_in_it(tmp_path: Path, workers: str) -> None:
    done = run(tmp_path, "--tier", "core", "-n", workers)
    assert passed(done) == {*BOTH, "test_dear[aarch64]"}, done.stdout + done.stderr
    document = json.loads((tmp_path / "out/scenarios/run.json").read_text())
    assert len(document["selected"]) == 3
    assert document["tier"] == "core"
    assert set(document["left_out"].values()) == {"in the full tier alone; this run is of the core"}
    assert len(document["left_out"]) == 3
    assert document["ended"]
    assert f"run {document['id']} of commit" in done.stdout


def test_the_full_tier_is_everything(tmp_path: Path) -> None:
    assert passed(run(tmp_path)) == set(ALL)


def test_a_newcomer_that_makes_the_core_too_dear_fails_the_collection(tmp_path: Path) -> None:
    keep(tmp_path, 40.0, *BOTH, "test_dear[aarch64]", "test_full[x86_64]")
    assert passed(run(tmp_path, "--tier", "core", limit=120))
    done = run(tmp_path, limit=119)
    assert done.returncode == 4
    assert "the core's 3 scenarios take 120 CPU-seconds" in done.stderr
    assert "40 s test_tiers.py::test_both[x86_64]" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_no_run_has_recorded_counts_as_the_mean(tmp_path: Path) -> None:
    keep(tmp_path, 40.0, *BOTH)
    done = run(tmp_path, limit=119)
    assert "take 120 CPU-seconds (cpu.json; 1 not recorded" in done.stderr


def test_a_run_records_what_passed(tmp_path: Path) -> None:
    keep(tmp_path, 7.0, "test_gone", "test_full[x86_64]")
    run(tmp_path, "--tier", "core")
    assert len(json.loads((tmp_path / "cpu.json").read_text())) == 2
    run(tmp_path, "--tier", "core", "--record-cpu", "-n", "2")
    assert json.loads((tmp_path / "cpu.json").read_text()) == {
        "test_tiers.py::test_both[aarch64]": 10.0,
        "test_tiers.py::test_both[x86_64]": 10.0,
        "test_tiers.py::test_dear[aarch64]": 30.0,
        "test_tiers.py::test_full[x86_64]": 7.0,
        "test_tiers.py::test_gone": 7.0,
    }


@pytest.mark.parametrize("text", ["[]", "{", '{"a": "b"}', "\udcff"])
def test_a_damaged_record_is_one_clear_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "cpu.json").write_bytes(text.encode(errors="surrogateescape"))
    done = run(tmp_path)
    assert done.returncode == 4
    assert "ERROR: cpu.json cannot be read" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_tier_is_a_mistake_at_once() -> None:
    with pytest.raises(ValueError, match="unknown tier 'nightly'; known are core, full"):
        scenario(tier="nightly")
