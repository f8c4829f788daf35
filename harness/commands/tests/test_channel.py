"""The channel's two ends, joined without a machine between them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.commands.channel import Channel
from harness.console.pump import Pump
from harness.deadline import Deadline
from harness.errors import ChannelError, DeadlineError, GuestFailureError, MachineExitedError
from harness.journal.journal import Journal, Source
from harness.journal.patterns import Pattern
from product.channel.framing import Decoder, encode

LIMIT = 20.0

DAEMON = """
import os, sys
from product.channel.daemon import Daemon
os.set_blocking(int(sys.argv[1]), False)
Daemon(int(sys.argv[1])).run()
"""


class Wire:
    """A channel with its pump; ``theirs`` is the guest's end."""

    def __init__(self) -> None:
        self.journal = Journal()
        self.ours, self.theirs = socket.socketpair()
        self.channel = Channel(self.ours, self.journal)
        self.pump = Pump("test", self.journal)
        self.journal.append(Source.HARNESS, "start")
        self.pump.add(self.ours, self.channel.feed, lambda: None)

    def close(self) -> None:
        self.pump.close()
        self.ours.close()
        self.theirs.close()


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire()
    yield made
    made.close()


@pytest.fixture
def channel(wire: Wire) -> Iterator[Channel]:
    """A channel to the real node end."""
    process = subprocess.Popen(
        [sys.executable, "-c", DAEMON, str(wire.theirs.fileno())],
        pass_fds=[wire.theirs.fileno()],
    )
    wire.channel.wait_up(Deadline.after(LIMIT))
    yield wire.channel
    process.kill()
    process.wait()


def hello(wire: Wire) -> None:
    wire.theirs.sendall(encode({"hello": {"protocol": 1, "boot_id": "b"}}))
    wire.channel.wait_up(Deadline.after(LIMIT))


def test_ping_proves_readiness_with_a_nonce(channel: Channel) -> None:
    assert channel.ping(Deadline.after(LIMIT))["uptime"] > 0


def test_a_completed_command_has_everything(channel: Channel) -> None:
    argv = ["sh", "-c", "cat; echo err >&2; echo $A; exit 3"]
    done = channel.exec(argv, Deadline.after(LIMIT), stdin=b"in\n", env={"A": "b"})
    assert (done.argv, done.exit, done.stdout, done.stderr) == (
        tuple(argv),
        3,
        b"in\nb\n",
        b"err\n",
    )
    assert 0 < done.seconds < LIMIT
    assert "exited with 3" in str(done)
    assert "err" in str(done)


def test_files_of_several_requests_arrive_whole(channel: Channel, tmp_path: Path) -> None:
    data = os.urandom(2_500_000)
    path = tmp_path / "it's a file"
    channel.put(data, str(path), Deadline.after(LIMIT), mode=0o600)
    assert path.read_bytes() == data
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
    assert channel.get(str(path), Deadline.after(LIMIT)) == data


def test_a_missing_file_says_which(channel: Channel) -> None:
    with pytest.raises(ChannelError, match="/nonexistent"):
        channel.get("/nonexistent", Deadline.after(LIMIT))


def test_a_command_that_cannot_run_says_why(channel: Channel) -> None:
    with pytest.raises(ChannelError, match="No such file"):
        channel.exec(["/nonexistent"], Deadline.after(LIMIT))


def test_a_command_over_its_deadline_ends_in_the_guest_with_its_output(channel: Channel) -> None:
    with pytest.raises(ChannelError, match=r"(?s)timeout.*before"):
        channel.exec(["sh", "-c", "echo before; sleep 600"], Deadline.after(2.0))


def test_a_deadline_tells_what_was_printed_so_far(channel: Channel) -> None:
    script = "echo before; echo aside >&2; sleep 600"
    pending = channel.start(["sh", "-c", script], limit=None)
    while pending.output() != b"before\n":
        channel.ping(Deadline.after(LIMIT))
    with pytest.raises(DeadlineError, match=r"(?s)nothing within.*stdout:\nbefore") as caught:
        pending.wait(Deadline.after(1.0))
    assert (caught.value.stdout, caught.value.stderr) == (b"before\n", b"aside\n")
    assert pending.output() == b"before\n"


def test_a_command_can_be_waited_for_again(channel: Channel, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    pending = channel.start(["sh", "-c", 'echo first; cat "$1"', "sh", str(gate)], limit=LIMIT)
    for _ in range(2):
        with pytest.raises(DeadlineError, match="first"):
            pending.wait(Deadline.after(0.5))
    gate.write_text("last\n")
    done = pending.wait(Deadline.after(LIMIT))
    assert done.stdout == b"first\nlast\n"
    assert pending.wait(Deadline.after(LIMIT)) is done
    assert pending.output() == done.stdout


def test_a_command_that_failed_tells_it_again(channel: Channel) -> None:
    pending = channel.start(["sh", "-c", "echo aside >&2; sleep 600"], limit=0.5)
    for _ in range(2):
        with pytest.raises(ChannelError, match=r"(?s)timeout.*stderr:\naside"):
            pending.wait(Deadline.after(LIMIT))


def test_a_command_that_was_given_up_is_forgotten(wire: Wire) -> None:
    hello(wire)
    for _ in range(2):
        with pytest.raises(DeadlineError):
            wire.channel.exec(["x"], Deadline.after(0.1))
        with pytest.raises(DeadlineError):
            wire.channel.ping(Deadline.after(0.1))
    assert wire.channel._requests == {}


def test_two_commands_at_once(channel: Channel) -> None:
    held = channel.start(["cat", "/dev/zero"], limit=LIMIT)
    assert channel.exec(["echo", "meanwhile"], Deadline.after(LIMIT)).text == "meanwhile"
    assert channel.exec(["pkill", "--version"], Deadline.after(LIMIT)).exit == 0
    while not held.output():
        channel.ping(Deadline.after(LIMIT))
    assert set(held.output()) == {0}


def test_a_guest_that_restarts_fails_what_was_under_way(wire: Wire) -> None:
    hello(wire)
    threading.Timer(0.1, lambda: wire.theirs.sendall(encode({"hello": {"boot_id": "c"}}))).start()
    with pytest.raises(ChannelError, match="restarted"):
        wire.channel.exec(["reboot"], Deadline.after(LIMIT))


def test_a_panic_and_an_exit_end_a_command(wire: Wire) -> None:
    hello(wire)
    timer = threading.Timer(0.1, wire.journal.failure, [Pattern.PANIC, "Kernel panic"])
    timer.start()
    with pytest.raises(GuestFailureError):
        wire.channel.exec(["x"], Deadline.after(60))
    pending = wire.channel.start(["x"], limit=None)
    wire.journal.append(Source.HARNESS, "exit", "gone")
    with pytest.raises(MachineExitedError):
        pending.wait(Deadline.after(60))


def test_a_silent_guest_meets_the_deadline(wire: Wire) -> None:
    hello(wire)
    with pytest.raises(DeadlineError, match="ping"):
        wire.channel.ping(Deadline.after(0.1))


def test_a_late_reply_to_a_request_given_up_is_nobodys(wire: Wire) -> None:
    hello(wire)
    with pytest.raises(DeadlineError):
        wire.channel.ping(Deadline.after(0.1))
    request = Decoder().feed(wire.theirs.recv(4096))[0]
    wire.theirs.sendall(encode({"id": request["id"], "nonce": "late"}))
    threading.Thread(target=answer_ping, args=[wire.theirs]).start()
    assert wire.channel.ping(Deadline.after(LIMIT))["nonce"] != "late"


def answer_ping(end: socket.socket) -> None:
    request = Decoder().feed(end.recv(4096))[0]
    end.sendall(encode({"id": request["id"], "nonce": request["nonce"], "boot_id": "b"}))


def test_a_wrong_nonce_is_no_readiness(wire: Wire) -> None:
    hello(wire)

    def lie() -> None:
        request = Decoder().feed(wire.theirs.recv(4096))[0]
        wire.theirs.sendall(encode({"id": request["id"], "nonce": "other"}))

    threading.Thread(target=lie).start()
    with pytest.raises(ChannelError, match="'other'"):
        wire.channel.ping(Deadline.after(LIMIT))


@pytest.mark.parametrize(
    "ends",
    [(Source.QMP, "event", "RESET"), (Source.HARNESS, "start", ""), (Source.HARNESS, "exit", "")],
)
def test_no_request_is_left_for_a_later_boot(wire: Wire, ends: tuple[Source, str, str]) -> None:
    with pytest.raises(ChannelError, match="not opened"):
        wire.channel.ping(Deadline.after(LIMIT))
    hello(wire)
    assert wire.channel.up
    wire.journal.append(*ends)
    assert not wire.channel.up
    with pytest.raises(ChannelError, match="not opened"):
        wire.channel.ping(Deadline.after(LIMIT))


def test_a_restored_machine_needs_no_hello(wire: Wire) -> None:
    wire.journal.append(Source.HARNESS, "restored")
    wire.channel.wait_up(Deadline.after(LIMIT))
    threading.Thread(target=answer_ping, args=[wire.theirs]).start()
    wire.channel.ping(Deadline.after(LIMIT))


def test_damage_is_in_the_journal(wire: Wire) -> None:
    hello(wire)
    wire.theirs.sendall(b"\x1e{broken\n")
    wire.journal.wait(
        lambda event: event.kind == "dropped", "the damage", Deadline.after(LIMIT), since=0
    )
