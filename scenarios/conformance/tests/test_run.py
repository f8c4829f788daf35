"""Running the tests' program, with a stand-in for it and for the node."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.deadline import Deadline
from harness.errors import DeadlineError, MachineExitedError
from harness.journal.journal import Journal, Source
from product.image import progress
from scenarios.conformance import run as module
from scenarios.conformance.results import Verdict, read
from scenarios.conformance.run import Brought, ConformanceError, run
from scenarios.kubernetes import PAYLOAD

NAMES = ["[sig-a] one [Conformance]", "[sig-a] two [Conformance]"]
KUBECONFIG = {"clusters": [{"name": "node", "cluster": {"server": "https://127.0.0.1:6443"}}]}
ENDED = "\n".join(
    json.dumps({"name": name, "state": state, "seconds": 1, "message": "why"})
    for name, state in zip(NAMES, ("passed", "failed"), strict=True)
)


class StandIn:
    """A node as far as ``run`` knows it; its limits pass at once where ``seconds`` is 0."""

    def __init__(self, seconds: float | None = None) -> None:
        self.journal = Journal()
        self.spec = SimpleNamespace(arch="x86_64")
        self._seconds = seconds

    def deadline(self, given: float) -> Deadline:
        return Deadline.after(given if self._seconds is None else self._seconds)

    def get(self, path: str) -> bytes:
        document = {"kubeconfig": "/admin"} if path == PAYLOAD else KUBECONFIG
        return json.dumps(document).encode()

    def address(self, port: int) -> str:
        assert port == 6443
        return "127.0.0.1:40000"


def go(tmp_path: Path, script: str, node: Any = None, **options: Any) -> Path:
    """Run ``script`` in place of the tests: the file of results."""
    program = tmp_path / "e2e"
    program.write_text(
        "#!/bin/sh\nfor one; do case $one in --results=*) results=${one#*=};; esac; done\n"
        f'echo "$@" > {tmp_path}/arguments\n{script}\n'
    )
    program.chmod(0o755)
    results = tmp_path / "results.jsonl"
    brought = Brought(program, tmp_path / "kubectl", tmp_path / "images.tar")
    stand_in: Any = node or StandIn()
    run(stand_in, brought, NAMES, tmp_path, results, **options)
    return results


def test_results_are_told_as_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(progress, "note", told.append)
    node = StandIn()
    script = f"echo hello; cat >> $results <<'END'\n{ENDED}\nEND\nexit 1"
    found = read(go(tmp_path, script, node))
    assert [found[name].verdict for name in NAMES] == [Verdict.PASSED, Verdict.FAILED]
    notes = [event.text for event in node.journal.events() if event.kind == "note"]
    assert notes == [f"[1/2] passed, 1 s: {NAMES[0]}", f"[2/2] failed, 1 s: {NAMES[1]}"]
    assert told == [notes[0], notes[1], "    why"]
    assert (tmp_path / "tests.log").read_text() == "hello\n"


def test_the_tests_are_led_to_the_node(tmp_path: Path) -> None:
    go(tmp_path, f"cat >> $results <<'END'\n{ENDED}\nEND")
    access = tmp_path / "kubeconfig"
    assert "server: https://127.0.0.1:40000\n" in access.read_text()
    assert access.stat().st_mode & 0o777 == 0o600
    arguments = (tmp_path / "arguments").read_text()
    assert "--node-os-arch=amd64" in arguments
    assert r"--ginkgo.focus=(\[sig-a\] one \[Conformance\]|" in arguments


@pytest.mark.parametrize("status", [0, 3])
def test_a_program_that_tests_nothing_is_an_error(tmp_path: Path, status: int) -> None:
    words = rf"ended with status {status} before a test had:\nbroken"
    with pytest.raises(ConformanceError, match=words):
        go(tmp_path, f"echo broken; exit {status}")


def test_after_its_minutes_a_run_ends_by_itself(tmp_path: Path) -> None:
    script = "trap 'echo cleaned; exit 1' TERM; while :; do sleep 0.1; done"
    go(tmp_path, script, minutes=0.001)
    assert (tmp_path / "tests.log").read_text() == "cleaned\n"


def test_after_its_deadline_it_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_END", 0.5)
    with pytest.raises(DeadlineError):
        go(tmp_path, "trap '' TERM; while :; do sleep 0.1; done", StandIn(0))


def test_where_the_machine_ends_the_tests_end(tmp_path: Path) -> None:
    node = StandIn()
    node.journal.append(Source.HARNESS, "exit", "QEMU ended")
    with pytest.raises(MachineExitedError):
        go(tmp_path, "while :; do sleep 0.1; done", node)
