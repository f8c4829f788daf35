"""Something that fails now and then is found, its rate is bounded, and no later run makes it
green."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.cli.rates import upper_bound
from harness.cli.tests.command import harness

# The fourth of its runs fails, whichever process runs it.
SUITE = """
import pytest, time
from pathlib import Path
from harness.pytest_plugin.scenario import scenario

COUNTER = Path(__file__).with_name("counter")

@scenario(arch="x86_64", tier="core")
def test_now_and_then(harness_arch):
    with COUNTER.open("a") as stream:
        stream.write("x")
    assert COUNTER.stat().st_size != 4

@scenario(arch="x86_64", tier="core")
def test_well(harness_arch):
    pass

@scenario(arch="x86_64", tier="core")
def test_dear(harness_arch):
    raise SystemError("it takes too long to be repeated")

@scenario(arch="x86_64")
def test_of_the_full_tier(harness_arch):
    raise SystemError("it is not in the core")

def test_unit():
    raise SystemError("no scenario")
"""
COSTS = {"now_and_then": 1.0, "well": 20.0, "dear": 20.1, "of_the_full_tier": 1.0}
# What a plugin that tries again does: of three phases it says "rerun" of one, and begins anew.
TRIES_AGAIN = """
import pytest
from _pytest.runner import runtestprotocol

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    for attempt in range(2):
        item._initrequest()
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        again = attempt == 0 and any(report.failed for report in reports)
        for report in reports:
            if again and report.failed:
                report.outcome = "rerun"
                item.ihook.pytest_runtest_logreport(report=report)
                break
            item.ihook.pytest_runtest_logreport(report=report)
        if not again:
            return True
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "test_it.py").write_text(SUITE)
    (tmp_path / "pytest.ini").write_text("[pytest]\nscenario_cpu_file = costs.json\n")
    costs = {f"test_it.py::test_{name}[x86_64]": cost for name, cost in COSTS.items()}
    (tmp_path / "costs.json").write_text(json.dumps(costs))
    return tmp_path


def flakes(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return harness("flakes", *words, cwd=project, XDG_CACHE_HOME=str(project / "cache"))


def result(project: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((project / "out/flakes/flakes.json").read_text())
    return found


def histories(project: Path) -> list[Path]:
    return sorted((project / "cache/kubesolo-os-harness/harness/flakes").glob("*.jsonl"))


def test_what_fails_now_and_then_is_found(project: Path) -> None:
    done = flakes(project, "-n", "9", "--load", "1", "--workers", "2")
    assert done.returncode == 1, done.stdout + done.stderr
    found = result(project)
    assert found["all"]["runs"] == 9
    assert found["all"]["failed"] == 1
    assert found["all"]["upper_bound"] == pytest.approx(upper_bound(1, 9))
    rates = {name: (one["failed"], one["runs"]) for name, one in found["scenarios"].items()}
    # Those that are dear or not of the core are not repeated.
    assert rates == {
        "test_it.py::test_now_and_then[x86_64]": (1, 5),
        "test_it.py::test_well[x86_64]": (0, 4),
    }
    [history] = histories(project)
    assert str(history) in done.stdout
    lines = [json.loads(line) for line in history.read_text().splitlines()]
    assert len(lines) == 1 + 9
    [failure] = [line for line in lines if line.get("outcome") == "failed"]
    assert "test_it.py:12: assert" in "\n".join(failure["failure"])
    assert Path(failure["evidence"], "pytest.log").is_file()
    # Rounds without a failure leave nothing.
    kept = [path for path in (project / "out/flakes").iterdir() if path.is_dir()]
    assert kept == [Path(failure["evidence"])]


def test_nothing_that_is_run_later_makes_it_green(project: Path) -> None:
    """Neither more runs, nor a plugin that tries again."""
    first = flakes(project, "-n", "8", "--load", "0", "--workers", "1")
    assert first.returncode == 1
    more = flakes(project, "-n", "12", "--load", "0", "--workers", "1", "--resume")
    assert more.returncode == 1, more.stdout + more.stderr
    assert result(project)["all"]["failed"] == 1
    assert result(project)["all"]["runs"] == 12
    assert len(histories(project)) == 1
    listed = flakes(project, "--history")
    assert "1 campaigns" in listed.stdout
    (project / "counter").unlink()
    (project / "conftest.py").write_text(TRIES_AGAIN)
    again = flakes(project, "-n", "10", "--load", "0", "--workers", "1")
    assert again.returncode == 1, again.stdout + again.stderr
    assert result(project)["all"]["failed"] == 1


def test_all_well_is_green_with_a_bound(project: Path) -> None:
    suite = (project / "test_it.py").read_text()
    (project / "test_it.py").write_text(suite.replace("!= 4", "> 0"))
    done = flakes(project, "-n", "6", "--load", "0")
    assert done.returncode == 0, done.stdout + done.stderr
    assert result(project)["all"] == {
        "runs": 6, "failed": 0, "rate": 0.0, "upper_bound": pytest.approx(1 - 0.05 ** (1 / 6))
    }  # fmt: skip
    assert "39.30%" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_campaign_that_ended_early_goes_on_where_it_was(
    project: Path, number: signal.Signals
) -> None:
    """Each run is written down at once."""
    suite = (project / "test_it.py").read_text().replace("!= 4", "> 0")
    # The third round never ends.
    stop = "    pass\n\n@scenario"
    slow = "    time.sleep(600 if COUNTER.stat().st_size == 3 else 0)\n\n@scenario"
    (project / "test_it.py").write_text(suite.replace(stop, slow, 1))
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path),
                   "XDG_CACHE_HOME": str(project / "cache")}  # fmt: skip
    words = ["-n", "8", "--load", "1", "--workers", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", "flakes", *words], cwd=project, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("4 of 8 runs"):
            break
    while (project / "counter").stat().st_size != 3:
        pass
    # To all of them, as a terminal does it.
    os.killpg(process.pid, number)
    said = process.stdout.read()
    status = process.wait()
    process.stdout.close()
    if number == signal.SIGINT:
        assert status == 130
        assert "the same command with --resume goes on" in said
        assert "Traceback" not in said
    (project / "counter").write_text("x" * 9)  # the next ones end
    [history] = histories(project)
    assert len(history.read_text().splitlines()) in (5, 6)
    done = flakes(project, *words, "--resume")
    assert done.returncode == 0, done.stdout + done.stderr
    assert result(project)["all"]["runs"] == 8
    assert len(histories(project)) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--at-most", "0.5"], "none of 3 scenarios takes at most 0.5 recorded CPU-seconds"),
        (["--resume"], "no campaign in"),
        (["--in", "nowhere"], "there is no nowhere"),
    ],
)
def test_mistakes(project: Path, words: list[str], said: str) -> None:
    done = flakes(project, *words)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_what_pytest_cannot_run_is_an_error(project: Path) -> None:
    (project / "conftest.py").write_text(
        "def pytest_sessionstart(session):\n    if not session.config.option.collectonly: 1 / 0\n"
    )
    done = flakes(project, "-n", "2", "--load", "0")
    assert done.returncode == 1
    assert "error: pytest ended with" in done.stderr
    assert "ZeroDivisionError" in done.stderr


@pytest.mark.parametrize(
    ("failed", "runs", "bound"),
    [
        # Of none: 1 - 0.05 ** (1 / n).
        (0, 1, 0.95), (0, 200, 0.0148669), (0, 500, 0.0059736),
        (10, 10, 1.0), (0, 0, 1.0),
    ],
)  # fmt: skip
def test_bounds(failed: int, runs: int, bound: float) -> None:
    assert upper_bound(failed, runs) == pytest.approx(bound, rel=1e-4)


@pytest.mark.parametrize(("failed", "runs"), [(1, 20), (3, 200), (1, 500), (40, 500)])
def test_a_bound_is_the_rate_at_which_so_few_are_seen_once_in_twenty(
    failed: int, runs: int
) -> None:
    from fractions import Fraction
    from math import comb

    rate = Fraction(upper_bound(failed, runs))
    few = sum(comb(runs, k) * rate**k * (1 - rate) ** (runs - k) for k in range(failed + 1))
    assert float(few) == pytest.approx(0.05, rel=1e-6)
