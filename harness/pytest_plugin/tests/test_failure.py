"""The first ten lines of a failed scenario, and a user's mistake, with workers and without."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# A session without machines: its node has a journal, as one that has begun.
CONFTEST = """
import pytest
from harness.errors import CommandError, HarnessError
from harness.journal.journal import Journal, Source
from harness.pytest_plugin.failure import SESSION
from harness.target.session import Session

class Off:
    running = False
    def quit(self): pass

class One:
    started = True
    machine = Off()
    name = "node"
    def __init__(self):
        self.journal = Journal("node")
        self.journal.reproduce = "this command"
        for number in range(30):
            self.journal.append(Source.CONSOLE, "line", f"console line {number}")
    def end(self): self.journal.check("the scenario's end")

class Alone(Session):
    def __init__(self):
        self.nodes = [One()]
        self.reproduce = "this command"

@pytest.fixture
def harness_session(request):
    request.node.stash[SESSION] = Alone()
    return request.node.stash[SESSION]

@pytest.fixture
def node(harness_session):
    return harness_session.nodes[0]

@pytest.fixture
def refused():
    raise pytest.UsageError("no key was given: set MY_KEY")

@pytest.fixture
def unmade():
    raise HarnessError("the image cannot be built: no room", hint="free some")
"""

TESTS = """
import pytest
from harness.deadline import Deadline
from harness.errors import CommandError
from harness.journal.patterns import Pattern
from harness.pytest_plugin.scenario import scenario

@scenario(arch="x86_64")
def test_waits(node, harness_arch):
    with node.journal.step("update"), node.journal.step("wait until ready"):
        node.journal.wait(lambda event: False, "the ready line", Deadline.after(0.01))

@scenario(arch="x86_64")
def test_panics(node, harness_arch):
    node.journal.failure(Pattern.PANIC, "Kernel panic - not syncing: VFS")

@scenario(arch="x86_64")
def test_demands(node, harness_arch):
    slot = "A"
    assert slot == "B"

@scenario(arch="x86_64")
def test_commands(node, harness_arch):
    try:
        1 / 0
    except ZeroDivisionError as error:
        with node.journal.step("ask"):
            raise CommandError("expected success: false exited with 1") from error

@scenario(arch="x86_64")
def test_refused(refused, harness_arch):
    pass

@scenario(arch="x86_64")
def test_unmade(unmade, harness_arch):
    pass
"""


def run(tmp_path: Path, tests: str, *options: str) -> str:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_end.py").write_text(tests)
    plugin = ["-p", "harness.pytest_plugin", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *plugin, "--rootdir", str(tmp_path), *options, "."],
        capture_output=True, text=True, check=False, cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path), "COLUMNS": "120"},
    )  # fmt: skip
    return done.stdout + done.stderr


def told(output: str, test: str) -> list[str]:
    """All lines on a failure, from below its title and its worker on."""
    lines = output.splitlines()
    begin = next(n for n, line in enumerate(lines) if line.startswith("___") and f"{test}[" in line)
    end = next(n for n in range(begin + 1, len(lines)) if lines[n].startswith(("___", "===")))
    own = [line for line in lines[begin + 1 : end] if not line.startswith("[gw")]
    return own[next(n for n, line in enumerate(own) if line) :]


@pytest.fixture(scope="module", params=["0", "1"], ids=["alone", "worker"])
def output(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    return run(tmp_path_factory.mktemp("project"), TESTS, "-n", str(request.param))


def test_a_wait_says_step_event_console_and_command(output: str) -> None:
    lines = told(output, "test_waits")
    assert lines[0].startswith("step:      update > wait until ready (test_end.py:11: node.")
    assert lines[1].startswith("decided:   nothing within 0 s (0.0 s into the wait for the ready")
    said = [line.removeprefix("node said:").strip() for line in lines[2:7]]
    assert said == [f"console line {number}" for number in range(25, 30)]
    assert lines[7] == "run again: this command"
    rest = "\n".join(lines[8:])
    assert "def test_waits" in rest
    assert "journal.py" not in rest, "only the test's own frame"
    assert "console line" not in rest, "the console is told once"


def test_a_failure_after_the_last_wait(output: str) -> None:
    lines = told(output, "test_panics")
    assert lines[0] == "step:      the scenario's end"
    assert lines[1].startswith("decided:   PANIC: Kernel panic - not syncing: VFS")
    assert "run again: this command" in lines[:8]


def test_a_demand_that_does_not_hold(output: str) -> None:
    lines = told(output, "test_demands")
    assert lines[0] == 'step:      test_end.py:20: assert slot == "B"'
    assert lines[1].startswith("decided:   AssertionError: assert 'A' == 'B'")
    assert lines[2].startswith("node said: console line 2")
    assert "run again: this command" in lines[:8]
    assert any(line.startswith(">") and "assert slot" in line for line in lines[8:])


def test_an_explained_error_tells_not_what_it_came_from(output: str) -> None:
    lines = told(output, "test_commands")
    assert lines[0].startswith("step:      ask (test_end.py:28: raise CommandError")
    assert lines[1] == "decided:   expected success: false exited with 1"
    assert "ZeroDivisionError:" not in "\n".join(lines)


@pytest.mark.parametrize(
    ("test", "decided"),
    [
        ("test_refused", "no key was given: set MY_KEY"),
        ("test_unmade", "the image cannot be built: no room; free some"),
    ],
)
def test_a_fixtures_refusal_is_one_message(output: str, test: str, decided: str) -> None:
    lines = [line for line in told(output, test) if line]
    assert lines[:2] == ["step:      before the scenario: its fixtures", f"decided:   {decided}"]
    assert lines[2] == f"run again: pytest 'test_end.py::{test}[x86_64]' --arch x86_64"
    assert len(lines) == 3, lines
    assert "INTERNALERROR" not in output


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_mistake_found_while_collecting_ends_the_run_with_its_message(
    tmp_path: Path, workers: str
) -> None:
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nscenario_cpu_file = cpu.json\ncore_cpu_seconds = 1\n"
    )
    (tmp_path / "cpu.json").write_text("{")
    output = run(tmp_path, TESTS, "-n", workers)
    assert "ERROR: cpu.json cannot be read" in output
    assert "INTERNALERROR" not in output
    assert "Traceback" not in output


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_profile_that_is_not_there_ends_the_run(tmp_path: Path, workers: str) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nharness_profile = nowhere:NONE\n")
    output = run(tmp_path, TESTS, "-n", workers)
    assert "ERROR: harness_profile: the profile nowhere:NONE cannot be imported" in output
    assert "INTERNALERROR" not in output
    assert "Traceback" not in output
