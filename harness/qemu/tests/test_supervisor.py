"""Nothing outlives the runner, however it dies."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.deadline import Deadline
from harness.errors import LaunchError
from harness.journal.journal import Journal
from harness.qemu.process import Process, alive

LIMIT = 30.0

# A process that ignores every polite signal and has a child in its group, as QEMU may have.
STUBBORN = "trap '' TERM HUP INT; sleep 600 & echo $! > child; echo $$ > parent; wait; wait"

RUNNER = """
import json, os, signal, sys
from pathlib import Path
from harness.deadline import Deadline
from harness.journal.journal import Journal
from harness.qemu.process import Process
# A shell has what it runs in the background ignore this one.
signal.signal(signal.SIGINT, signal.default_int_handler)
process = Process(Path(sys.argv[1]), Journal(), lambda: None)
script = f"cd {process.directory}; " + sys.argv[2]
pid = process.start(["/bin/sh", "-c", script], [], Deadline.after(30))
supervisor = process._supervisor.pid
print(json.dumps({"pid": pid, "supervisor": supervisor, "directory": str(process.directory)}))
sys.stdout.flush()
sys.stdin.read()
"""


def wait_gone(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], LIMIT)[0])


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    process = subprocess.Popen(
        [sys.executable, "-c", RUNNER, str(tmp_path), STUBBORN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    facts = json.loads(process.stdout.readline())
    child = Path(facts["directory"]) / "child"
    parent = Path(facts["directory"]) / "parent"
    while not parent.exists():  # The shell writes it last and needs a moment.
        select.select([], [], [], 0.01)
    facts["child"] = int(child.read_text())
    yield process, facts
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        assert stream is not None
        stream.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_runner_leaves_no_process_and_no_directory(
    runner: tuple[subprocess.Popen[str], dict[str, Any]], number: int
) -> None:
    process, facts = runner
    watched = [os.pidfd_open(facts[name]) for name in ("pid", "child", "supervisor")]
    try:
        process.send_signal(number)
        assert all(wait_gone(descriptor) for descriptor in watched)
    finally:
        for descriptor in watched:
            os.close(descriptor)
    assert not alive(facts["pid"])
    assert not alive(facts["child"])
    assert not Path(facts["directory"]).exists()


def test_a_terminated_supervisor_takes_its_machine_along(
    runner: tuple[subprocess.Popen[str], dict[str, Any]],
) -> None:
    _, facts = runner
    watched = [os.pidfd_open(facts[name]) for name in ("pid", "child")]
    try:
        os.kill(facts["supervisor"], signal.SIGTERM)
        assert all(wait_gone(descriptor) for descriptor in watched)
    finally:
        for descriptor in watched:
            os.close(descriptor)


def test_a_killed_supervisor_takes_its_machine_along(
    runner: tuple[subprocess.Popen[str], dict[str, Any]],
) -> None:
    """The kernel does it: the machine asked for a signal on its parent's death."""
    _, facts = runner
    descriptor = os.pidfd_open(facts["pid"])
    try:
        os.kill(facts["supervisor"], signal.SIGKILL)
        assert wait_gone(descriptor)
    finally:
        os.close(descriptor)
        os.kill(facts["child"], signal.SIGKILL)  # Only QEMU itself asked.


def events(journal: Journal) -> list[tuple[str, Any]]:
    return [(event.kind, event.data.get("status")) for event in journal.events()]


def test_start_kill_and_start_again(tmp_path: Path) -> None:
    journal = Journal()
    process = Process(tmp_path, journal, lambda: None)
    try:
        process.start(["/bin/sleep", "600"], [], Deadline.after(LIMIT))
        assert process.kill(Deadline.after(LIMIT)) == -signal.SIGKILL
        busy = "i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); done; exit 3"
        process.start(["/bin/sh", "-c", busy], [], Deadline.after(LIMIT))
        assert process.wait(Deadline.after(LIMIT)) == 3
        assert events(journal) == [("start", None), ("exit", -9), ("start", None), ("exit", 3)]
        [idle, worked] = [e.data["cpu_seconds"] for e in journal.events() if e.kind == "exit"]
        assert 0 <= idle < worked
        process.start(["/bin/sh", "-c", "while :; do :; done"], [], Deadline.after(LIMIT))
    finally:
        process.close()
    last = journal.events()[-1]
    assert (last.kind, last.data["status"]) == ("exit", -signal.SIGKILL)
    assert "cpu_seconds" in last.data
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_supervisor_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    left = tmp_path / "machine-left"
    left.mkdir()
    (left / "disk.qcow2").write_text("large")
    young = tmp_path / "machine-young"
    young.mkdir()
    running = Process(tmp_path, Journal(), lambda: None)
    long_ago = time.time() - 3600
    for folder in (left, running.directory):
        os.utime(folder, (long_ago, long_ago))
    Process(tmp_path, Journal(), lambda: None).close()
    try:
        assert set(tmp_path.iterdir()) == {young, running.directory}
    finally:
        running.close()


def test_a_machine_gives_way_as_far_as_it_is_told(tmp_path: Path) -> None:
    process = Process(tmp_path, Journal(), lambda: None)
    own = os.getpriority(os.PRIO_PROCESS, 0)
    try:
        for nice in (0, 7):
            pid = process.start(["/bin/sleep", "600"], [], Deadline.after(LIMIT), nice=nice)
            assert os.getpriority(os.PRIO_PROCESS, pid) == min(own + nice, 19)
            process.kill(Deadline.after(LIMIT))
    finally:
        process.close()


def test_descriptors_arrive_at_their_own_numbers(tmp_path: Path) -> None:
    process = Process(tmp_path, Journal(), lambda: None)
    pairs = [socket.socketpair() for _ in range(3)]
    try:
        numbers = [theirs.fileno() for _, theirs in pairs]
        python = "import os,sys; [os.write(int(n), n.encode()) for n in sys.argv[1:]]"
        argv = [sys.executable, "-c", python, *map(str, numbers)]
        process.start(argv, numbers, Deadline.after(LIMIT))
        assert process.wait(Deadline.after(LIMIT)) == 0
        for (ours, theirs), number in zip(pairs, numbers, strict=True):
            theirs.close()
            ours.settimeout(LIMIT)
            assert ours.recv(100) == str(number).encode()
            assert ours.recv(100) == b""  # Nobody else holds the other end.
    finally:
        process.close()
        for pair in pairs:
            for end in pair:
                end.close()


def test_a_program_beside_the_machine_ends_with_it_and_has_its_own_descriptors(
    tmp_path: Path,
) -> None:
    process = Process(tmp_path, Journal(), lambda: None)
    ours, theirs = socket.socketpair()
    talk = "import os,sys,time; os.write(int(sys.argv[1]), str(os.getpid()).encode()); "
    beside = [sys.executable, "-c", talk + "time.sleep(600)", str(theirs.fileno())]
    try:
        number = theirs.fileno()
        for end in ("killed", "by itself"):
            program = ["/bin/sleep", "600"] if end == "killed" else ["/bin/sleep", "1"]
            process.start(program, [], Deadline.after(LIMIT), beside=(beside, [number]))
            ours.settimeout(LIMIT)
            watched = os.pidfd_open(int(ours.recv(100)))
            if end == "killed":
                process.kill(Deadline.after(LIMIT))
            assert process.wait(Deadline.after(LIMIT)) == (-9 if end == "killed" else 0)
            assert wait_gone(watched)
            os.close(watched)
        with pytest.raises(LaunchError, match="/nowhere: No such file"):
            process.start(["/bin/true"], [], Deadline.after(LIMIT), beside=(["/nowhere"], [number]))
        process.start(["/bin/true"], [], Deadline.after(LIMIT))
        assert process.wait(Deadline.after(LIMIT)) == 0
    finally:
        process.close()
        ours.close()
        theirs.close()


def test_a_machine_has_no_descriptors_but_its_own(tmp_path: Path) -> None:
    """Not the supervisor's either: an inherited socket would never end with the supervisor."""
    process = Process(tmp_path, Journal(), lambda: None)
    pair = socket.socketpair()
    try:
        number = pair[1].fileno()
        listing = "import os; print(sorted(int(n) for n in os.listdir('/proc/self/fd')))"
        argv = ["/bin/sh", "-c", f'{sys.executable} -I -S -c "$1" >&2', "sh", listing]
        process.start(argv, [number], Deadline.after(LIMIT))
        assert process.wait(Deadline.after(LIMIT)) == 0
        found = set(json.loads(process.last_words()))
        # The listing itself has its directory open, at the lowest number that is free.
        assert found == {0, 1, 2, number, min(set(range(3, number + 2)) - {number})}
    finally:
        process.close()
        for end in pair:
            end.close()


def test_a_program_that_cannot_be_run_says_why(tmp_path: Path) -> None:
    process = Process(tmp_path, Journal(), lambda: None)
    try:
        with pytest.raises(LaunchError, match="/nonexistent: No such file"):
            process.start(["/nonexistent"], [], Deadline.after(LIMIT))
        process.start(["/bin/sh", "-c", "echo words >&2; exit 1"], [], Deadline.after(LIMIT))
        assert process.wait(Deadline.after(LIMIT)) == 1
        assert process.last_words() == "words"
    finally:
        process.close()


def test_one_machine_at_a_time(tmp_path: Path) -> None:
    process = Process(tmp_path, Journal(), lambda: None)
    try:
        process.start(["/bin/sleep", "600"], [], Deadline.after(LIMIT))
        with pytest.raises(LaunchError, match="already running"):
            process.start(["/bin/sleep", "600"], [], Deadline.after(LIMIT))
    finally:
        process.close()


def test_an_interrupt_of_the_terminal_does_not_reach_the_machine(tmp_path: Path) -> None:
    process = Process(tmp_path, Journal(), lambda: None)
    try:
        pid = process.start(["/bin/sleep", "600"], [], Deadline.after(LIMIT))
        assert os.getsid(pid) != os.getsid(0)
        assert os.getpgid(pid) == pid
    finally:
        process.close()
