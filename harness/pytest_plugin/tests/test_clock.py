"""A stall that an emulated machine's kernel reports, with a sane clock and with one that leapt."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

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


@pytest.mark.parametrize(("append", "status"), [("", 1), (LEAPS, 0)])
def test_only_a_stall_by_a_sane_clock_fails_a_scenario(
    tmp_path: Path, append: str, status: int
) -> None:
    project = make_project(tmp_path, STALLS, append=append)
    done = subprocess.run(
        pytest_command("--arch", "x86_64", "-n", "0", "test_it.py"),
        cwd=project, env=environment(tmp_path / "cache"), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stdout + done.stderr
    path = project / "out/scenarios/test_it-test_stalls[x86_64]/node/timeline.json"
    events = json.loads(path.read_text())["events"]
    (failure,) = (event["data"] for event in events if event["kind"] == "failure")
    assert failure["pattern"] == "RCU_STALL"
    assert not failure["allowed"]
    if append:
        assert failure["disbelieved"].startswith("the guest's clock had gained ")
    else:
        assert failure["disbelieved"] == ""
        assert "decided" in done.stdout + done.stderr
        assert "RCU_STALL: [" in done.stdout + done.stderr
