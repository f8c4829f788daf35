"""What a run leaves for who makes a release."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from product.publish.matrix import MatrixReport

TESTS = """
import pytest
from harness.pytest_plugin.scenario import scenario

@pytest.fixture
def images():
    return {}

@pytest.fixture
def host_tools():
    return None

@scenario()
def test_good(harness_arch, record_property):
    record_property("upgraded_from", "0.1.0")

@scenario(backend={"lab"})
def test_lab(): pass

@scenario(arch="x86_64")
def test_bad(harness_arch): assert harness_arch == "another"

@pytest.fixture
def breaks():
    yield
    raise RuntimeError("cannot be taken down")

@scenario(arch="x86_64")
def test_end(harness_arch, breaks): pass

def test_no_scenario(): pass
"""
FILE = "scenarios/test_it.py"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "scenarios").mkdir()
    (tmp_path / FILE).write_text(TESTS)
    (tmp_path / ".gitignore").write_text("out/\n__pycache__/\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "First")
    return tmp_path


def git(root: Path, *words: str) -> str:
    command = ["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@example.com"]
    return subprocess.run(
        [*command, *words], check=True, capture_output=True, text=True
    ).stdout.strip()


def run(checkout: Path, *options: str) -> MatrixReport:
    path = checkout / "out/scenarios/report.json"
    result = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-p", "harness.pytest_plugin",
            "-p", "scenarios.release_report", "-p", "no:cacheprovider",
            "--rootdir", str(checkout), *options,
        ],
        capture_output=True, text=True, check=False, cwd=checkout,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    assert path.is_file(), result.stdout + result.stderr
    return MatrixReport.model_validate_json(path.read_bytes())


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "workers"])
def test_how_each_scenario_ended(checkout: Path, workers: tuple[str, ...]) -> None:
    report = run(checkout, *workers, "scenarios")
    assert (report.commit, report.dirty) == (git(checkout, "rev-parse", "HEAD"), False)
    assert report.tier == "full"
    assert report.architectures == ("x86_64", "aarch64")
    assert report.paths == ("scenarios",)
    assert set(report.passed) == {f"{FILE}::test_good[{arch}]" for arch in report.architectures}
    assert set(report.failed) == {f"{FILE}::test_bad[x86_64]", f"{FILE}::test_end[x86_64]"}
    assert list(report.skipped) == [f"{FILE}::test_lab"]
    assert "needs one of" in report.skipped[f"{FILE}::test_lab"]
    assert report.not_run == {}
    assert report.properties[f"{FILE}::test_good[x86_64]"] == {"upgraded_from": "0.1.0"}
    assert report.ended >= report.started


def test_what_did_not_run_is_said(checkout: Path) -> None:
    report = run(checkout, "--arch", "x86_64", "-k", "good or bad", f"{FILE}")
    assert report.architectures == ("x86_64",)
    assert report.not_run[f"{FILE}::test_lab"].startswith("deselected")
    report = run(checkout, "-x", f"{FILE}::test_bad", f"{FILE}::test_good")
    assert report.not_run == {
        f"{FILE}::test_good[{arch}]": "the run ended before it" for arch in ("x86_64", "aarch64")
    }
    assert report.paths == (f"{FILE}::test_bad", f"{FILE}::test_good")
    assert not report.covers(FILE, "x86_64")
    report = run(checkout, "--tier", "core", "scenarios")
    assert report.tier == "core"
    assert len(report.not_run) == 5


@pytest.mark.parametrize("name", [FILE, "scenarios/helper.py"])
def test_a_changed_checkout_is_dirty(checkout: Path, name: str) -> None:
    with (checkout / name).open("a") as stream:
        stream.write("# changed\n")
    report = run(checkout, "scenarios")
    assert report.dirty
    assert report.commit == git(checkout, "rev-parse", "HEAD")


def test_a_commit_during_the_run_is_noticed(checkout: Path) -> None:
    with (checkout / FILE).open("a") as stream:
        stream.write(
            "\nimport subprocess\n@scenario(arch='x86_64')\ndef test_commits(harness_arch):\n"
            "    subprocess.run(['git', '-c', 'user.name=a', '-c', 'user.email=a@b', 'commit',"
            " '-q', '--allow-empty', '-m', 'x'], check=True)\n"
        )
    git(checkout, "commit", "-qam", "Second")
    began = git(checkout, "rev-parse", "HEAD")
    report = run(checkout, "scenarios")
    assert (report.commit, report.dirty) == (began, True)


def test_outside_git_there_is_no_commit(checkout: Path) -> None:
    (checkout / ".git").rename(checkout / "gone")
    report = run(checkout, "scenarios")
    assert (report.commit, report.dirty) == (None, True)


def test_a_run_that_is_killed_leaves_no_report_of_the_one_before(checkout: Path) -> None:
    run(checkout, "scenarios")
    with (checkout / FILE).open("a") as stream:
        stream.write(
            "\nimport os\n@scenario(arch='x86_64')\n"
            "def test_killed(harness_arch):\n    os.kill(os.getpid(), 9)\n"
        )
    with pytest.raises(AssertionError):
        run(checkout, "scenarios")
