"""A stall that an emulated machine's kernel reports, with a sane clock and with one that leapt."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from harness.journal.clock import MARGIN
from harness.tests.small_system import environment, make_project, pytest_command

# The kernel takes the processor for many times slower than it is, as it may by itself.
LEAPS = "tsc_early_khz=40000"
STALLS = """
from harness.pytest_plugin.scenario import scenario

@scenario(arch="x86_64", watchdog=False)
def test_stalls(harness_node):
    harness_node.boot()
    line = "rcu: INFO: rcu_preempt self-detected stall on CPU"
    harness_node.succeed(f"echo '{line}' > /dev/kmsg")
"""


@pytest.mark.parametrize("append", ["", LEAPS])
def test_only_a_stall_by_a_sane_clock_fails_a_scenario(tmp_path: Path, append: str) -> None:
    project = make_project(tmp_path, STALLS, append=append)
    done = subprocess.run(
        pytest_command("--arch", "x86_64", "-n", "0", "test_it.py"),
        cwd=project, env=environment(tmp_path / "cache"), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    path = project / "out/scenarios/test_it-test_stalls[x86_64]/node/timeline.json"
    events = json.loads(path.read_text())["events"]
    # By a clock that leapt there may be more, of the kernel's own, on a busy host.
    failures = [event["data"] for event in events if event["kind"] == "failure"]
    assert failures[-1]["pattern"] == "RCU_STALL"
    assert not failures[-1]["allowed"]
    # Now and then it leaps without being told to.
    leapt = bool(append) or _ahead(events) >= MARGIN
    assert done.returncode == (0 if leapt else 1), done.stdout + done.stderr
    if leapt:
        reasons = [failure["disbelieved"] for failure in failures]
        assert all(reason.startswith("the guest's clock had gained ") for reason in reasons)
    else:
        assert [failure["disbelieved"] for failure in failures] == [""]
        assert "decided" in done.stdout + done.stderr
        assert "RCU_STALL: [" in done.stdout + done.stderr


def _ahead(events: list[dict[str, Any]]) -> float:
    """The most seconds that a stamp of the kernel's lies above those since the machine's start."""
    starts = (e["time"] for e in events if (e["source"], e["kind"]) == ("harness", "start"))
    start = float(next(starts))
    stamps = ((float(e["time"]), re.match(r"\[ *([\d.]+)\] ", e["text"])) for e in events)
    ahead = [float(found[1]) - (time - start) for time, found in stamps if found is not None]
    return max(ahead)
