"""A failed scenario's machine stays, is reached from elsewhere, and ends when somebody goes on."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import termios
from pathlib import Path
from typing import cast

import pexpect
import pytest

from harness.console.door import connect
from harness.tests.small_system import environment, in_terminal, make_project, pytest_command

# Seconds; machines are emulated, beside others.
LIMIT = 600
FAILS = """
from harness.pytest_plugin.scenario import scenario

@scenario(arch="x86_64", watchdog=False)
def test_fails(harness_node):
    harness_node.boot()
    harness_node.put("written by the test", "/written")
    harness_node.succeed("setsid sh </dev/console >/dev/console 2>&1 &")
    assert harness_node.succeed("cat /written").text == "something else"
"""
PASSES = "def test_passes(): pass\n"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--pause-on-failure"], "standard input is no terminal"),
        (["--pause-on-failure", "-n", "2"], "add -n 0, or say how long"),
        (["--pause-seconds", "5"], "add --pause-on-failure"),
        (["--pause-on-failure", "--pause-seconds", "0"], "give it a time above 0"),
    ],
)
def test_a_pause_that_nobody_could_end_is_refused(
    tmp_path: Path, options: list[str], said: str
) -> None:
    (tmp_path / "test_it.py").write_text(PASSES)
    done = subprocess.run(
        pytest_command("--rootdir", str(tmp_path), *options, "test_it.py"),
        cwd=tmp_path, env=environment(tmp_path), stdin=subprocess.DEVNULL, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == pytest.ExitCode.USAGE_ERROR, done.stdout + done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("options", [["-n", "2"], []])
def test_with_a_limit_no_terminal_is_needed(tmp_path: Path, options: list[str]) -> None:
    (tmp_path / "test_it.py").write_text(PASSES)
    words = ["--pause-on-failure", "--pause-seconds", "5", *options]
    done = subprocess.run(
        pytest_command("--rootdir", str(tmp_path), *words, "test_it.py"),
        cwd=tmp_path, env=environment(tmp_path), stdin=subprocess.DEVNULL, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def harness(project: Path, cache: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness", *words], cwd=project, env=environment(cache),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_paused_machine_is_reached_and_ends_with_enter(tmp_path: Path) -> None:
    project, cache = make_project(tmp_path, FAILS), tmp_path / "cache"
    words = pytest_command("--pause-on-failure", "--arch", "x86_64", "-n", "0")
    runner = in_terminal(words, project, cache)
    try:
        runner.expect(r"paused: test_it\.py::test_fails\[x86_64\]\r\n")
        # Another failure pauses, too: all that is told of it is wanted, and at once.
        runner.expect(r"decided: +([^\r]*)\r\n(.*)run again:")
        found = cast("re.Match[str]", runner.match)
        assert found[1].startswith("AssertionError"), found[0]
        runner.expect(r"harness console (\w+)\r\n")
        name = str(cast("re.Match[str]", runner.match)[1])
        runner.expect(r"SSH +ssh -p \d+ USER@127\.0\.0\.1")
        runner.expect("press Enter to go on")
        _elsewhere(project, cache, name)
        # The console in the runner's own terminal.
        runner.sendline("c")
        runner.expect("Ctrl-] leaves")
        runner.send("echo $((40 + 3))\r")
        runner.expect(r"\n43\r")
        runner.sendcontrol("]")
        runner.expect("press Enter to go on")
        runner.sendline("")
        runner.expect("1 failed")
        runner.expect(pexpect.EOF)
        runner.close()
        assert runner.exitstatus == 1
    finally:
        runner.close(force=True)
    assert list((cache / "harness/runs").iterdir()) == []
    folder = project / "out/scenarios/test_it-test_fails[x86_64]/node"
    notes = [e["text"] for e in json.loads((folder / "timeline.json").read_text())["events"]]
    assert "paused after the failure" in notes
    assert any(note.startswith("went on after") for note in notes)


def _elsewhere(project: Path, cache: Path, name: str) -> None:
    """What another process can do with a paused machine."""
    shown = harness(project, cache, "console").stdout
    assert name in shown
    assert "paused" in shown
    assert harness(project, cache, "console", "node", "--run", "cat /written").stdout == (
        "written by the test"
    )
    assert harness(project, cache, "console", name, "--run", "exit 3").returncode == 3
    nobody = harness(project, cache, "console", "nobody")
    assert nobody.returncode == 1
    assert f"those that run: {name} (node of" in nobody.stderr
    with connect(cache / f"harness/runs/machine-{name}", "qmp") as stream:
        lines = stream.makefile("rwb")
        assert json.loads(lines.readline())["QMP"]["version"]["qemu"]["major"] >= 7
        for command, answer in (
            ('{"execute": "qmp_capabilities"}', {"return": {}}),
            (
                '{"execute": "query-status", "id": 1}',
                {"return": {"status": "running", "running": True}, "id": 1},
            ),
        ):
            lines.write(command.encode() + b"\n")
            lines.flush()
            assert json.loads(lines.readline()) == answer
        lines.write(b'{"execute": "dance"}\n')
        lines.flush()
        assert "dance" in json.loads(lines.readline())["error"]["desc"]
    console = in_terminal([sys.executable, "-m", "harness", "console", name], project, cache)
    try:
        console.expect("Ctrl-] leaves")
        console.expect("debian-cloud: ready")  # what it said before
        console.send("echo $((6 * 7))\r")
        console.expect(r"\n42\r")
        assert not _cooked(console)
        console.sendcontrol("]")
        console.expect("left; the machine goes on")
        assert _cooked(console)
        console.expect(pexpect.EOF)
    finally:
        console.close(force=True)
    assert console.exitstatus == 0


def _cooked(child: pexpect.spawn[str]) -> bool:
    """Whether a program's terminal echoes and takes lines."""
    wanted = termios.ECHO | termios.ICANON | termios.ISIG
    return bool(termios.tcgetattr(child.child_fd)[3] & wanted == wanted)


def test_a_worker_pauses_until_somebody_elsewhere_goes_on(tmp_path: Path) -> None:
    project, cache = make_project(tmp_path, FAILS), tmp_path / "cache"
    words = ["--pause-on-failure", "--pause-seconds", str(LIMIT), "--arch", "x86_64", "-n", "1"]
    runner = in_terminal(pytest_command(*words), project, cache)
    try:
        runner.expect("console ID --go-on")
        done = harness(project, cache, "console", "test_it-test_fails[x86_64]", "--go-on")
        assert done.returncode == 0, done.stderr
        runner.expect("1 failed")
    finally:
        runner.close(force=True)
