"""Who writes the report: the end of a test run, and the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.report.history import read_history
from harness.report.tests.test_report import evidence

# What the session fixture leaves of a scenario, without the machine.
TESTS = """
import json
from pathlib import Path
import pytest

@pytest.mark.parametrize("name", ["one", "two"])
def test_scenario(name, record_property):
    directory = Path("evidence") / f"scenarios-{name}[x86_64]"
    result = json.loads((directory / "result.json").read_bytes())
    record_property("scenario", {**result, "artefacts": str(directory)})

def test_unit(): pass
"""


def run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=directory,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path), "COLUMNS": "200"},
    )


def pytest_run(directory: Path, *options: str) -> str:
    (directory / "test_inner.py").write_text(TESTS)
    done = run(
        directory, "pytest", "-p", "harness.pytest_plugin", "-p", "no:cacheprovider",
        "--rootdir", str(directory), "--artefacts", "evidence", *options, "test_inner.py",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_run_of_scenarios_ends_with_one_report(tmp_path: Path, workers: str) -> None:
    for name in ("one", "two"):
        evidence(tmp_path / "evidence", name)
    output = pytest_run(tmp_path, "-n", workers, "--junitxml=evidence/junit.xml")
    assert output.count("report: ") == 1
    assert f"report: {tmp_path / 'evidence' / 'report.html'}" in output
    page = (tmp_path / "evidence" / "report.html").read_text()
    assert page.count("<svg") == 2
    assert 'href="junit.xml"' in page


def test_a_run_without_scenarios_leaves_the_last_report_alone(tmp_path: Path) -> None:
    evidence(tmp_path / "evidence", "one")
    assert "report: " not in pytest_run(tmp_path, "-k", "unit")
    assert not (tmp_path / "evidence" / "report.html").exists()


def test_a_report_that_cannot_be_written_does_not_break_the_run(tmp_path: Path) -> None:
    for name in ("one", "two"):
        evidence(tmp_path / "evidence", name)
    (tmp_path / "evidence" / "report.html").mkdir()
    assert "the report could not be written: " in pytest_run(tmp_path)


def test_the_command_line_writes_it_among_the_evidence(tmp_path: Path) -> None:
    evidence(tmp_path / "evidence", "one")
    done = run(tmp_path, "harness", "report", "evidence")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "evidence/report.html"
    assert (tmp_path / "evidence" / "report.html").read_text().count("<svg") == 1


def test_the_command_line_writes_it_elsewhere(tmp_path: Path) -> None:
    evidence(tmp_path / "evidence", "one")
    done = run(tmp_path, "harness", "report", "evidence", "--output", "new/page.html")
    assert done.returncode == 0, done.stderr
    assert "../evidence/" in (tmp_path / "new" / "page.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["nowhere"], "error: there is no directory nowhere"),
        (["evidence", "--output", "evidence"], "error: the report evidence cannot be written"),
    ],
)
def test_mistakes_at_the_command_line(tmp_path: Path, arguments: list[str], reason: str) -> None:
    evidence(tmp_path / "evidence", "one")
    done = run(tmp_path, "harness", "report", *arguments)
    assert done.returncode == 1
    assert reason in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("chosen", ["", "kept/runs.jsonl"])
def test_each_run_adds_itself_to_the_history(tmp_path: Path, chosen: str) -> None:
    root = tmp_path / "evidence"
    for name in ("one", "two"):
        evidence(root, name)
    # The inner tests are no scenarios, so that no run begins of itself.
    document = {
        "id": "first", "commit": "c0ffee", "started": "", "tier": "core", "selected": [],
        "left_out": {}, "skipped": {},
    }  # fmt: skip
    for number, run_id in enumerate(("first", "second"), 1):
        for name in ("one", "two"):
            test = f"scenarios/test_x.py::test_{name}[x86_64]"
            (root / f"scenarios-{name}[x86_64]" / "run").write_text(f"{run_id}\n{test}\n")
        (root / "run.json").write_text(json.dumps({**document, "id": run_id}))
        pytest_run(tmp_path, *(["--history", chosen] if chosen else []))
        records = read_history(tmp_path / (chosen or "evidence/history.jsonl"))
        assert [one.id for one in records] == ["first", "second"][:number]
    assert "Trend over runs" in (root / "report.html").read_text()
    assert "Regressions: none" in (root / "report.html").read_text()
