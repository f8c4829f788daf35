"""What a scenario's end checks, and what its timelines show."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

# A session without machines: its node has a journal, as one that has begun.
CONFTEST = """
import pytest
from harness.journal.journal import Journal
from harness.pytest_plugin.failure import SESSION
from harness.target.node import Node
from harness.target.session import Session

class Off:
    running = False
    def end(self):
        pass

class One:
    started = True
    target = Off()
    def __init__(self):
        self.journal = Journal()
        self.journal.reproduce = "this command"
    end = Node.end

class Alone(Session):
    def __init__(self):
        self.nodes = [One()]
        self.reproduce = "this command"

@pytest.fixture
def harness_session(request):
    request.node.stash[SESSION] = Alone()
    return request.node.stash[SESSION]

@pytest.fixture
def harness_node(harness_session):
    return harness_session.nodes[0]
"""

PANICS = """
from harness.journal.journal import Source
from harness.journal.patterns import Pattern

def panic(node):
    node.journal.append(Source.CONSOLE, "line", "the last line")
    node.journal.failure(Pattern.PANIC, "Kernel panic - not syncing: VFS")

def test_well(harness_node):
    with harness_node.journal.expecting(Pattern.PANIC):
        panic(harness_node)

def test_panics(harness_node):
    panic(harness_node)

def test_fails_itself(harness_node):
    panic(harness_node)
    raise KeyError("its own error")
"""

FAULTS = """
import urllib.error, urllib.request
from harness.journal.journal import Source

def test_faults(harness_node, harness_webserver, tmp_path):
    server = harness_webserver(tmp_path)
    server.fail("/a", 503)
    try:
        urllib.request.urlopen(f"{server.host_url}/a")
    except urllib.error.HTTPError as error:
        assert error.code == 503
    fired = [event.text for event in harness_node.journal.events() if event.source is Source.FAULT]
    assert fired == ["status 503 for /a"]
"""


def run(tmp_path: Path, tests: str) -> tuple[int, str]:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_end.py").write_text(tests)
    plugin = ["-p", "harness.pytest_plugin", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *plugin, "--rootdir", str(tmp_path), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path), "COLUMNS": "200"},
    )
    return done.returncode, done.stdout + done.stderr


def test_a_failure_after_the_last_wait_fails_the_test(tmp_path: Path) -> None:
    _, output = run(tmp_path, PANICS)
    assert "2 failed, 1 passed" in output, output
    assert "the scenario's end: PANIC: Kernel panic - not syncing: VFS" in output
    assert "the last line" in output
    assert "run again: this command" in output
    assert "_pytest/runner.py" not in output
    # The test's own error says more.
    assert "KeyError: 'its own error'" in output
    assert "FAILED test_end.py::test_panics" in output


def test_what_a_web_servers_fault_does_is_in_the_nodes_journal(tmp_path: Path) -> None:
    code, output = run(tmp_path, FAULTS)
    assert code == 0, output
