"""The daemon, run as a process of its own over a socket pair."""

from __future__ import annotations

import base64
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

from product.channel.framing import Decoder, Message, encode

LIMIT = 20.0  # seconds until a reply is given up on a loaded machine

PROGRAM = """
import os, sys
from product.channel.daemon import Daemon
os.set_blocking(int(sys.argv[1]), False)
Daemon(int(sys.argv[1])).run()
"""


class Peer:
    """The host's end of a daemon's stream."""

    def __init__(self, end: socket.socket, process: subprocess.Popen[bytes]) -> None:
        self.end = end
        self.process = process
        self.decoder = Decoder()
        self.waiting: list[Message] = []

    def send(self, **message: Any) -> None:
        self.end.sendall(encode(message))

    def receive(self) -> Message:
        deadline = time.monotonic() + LIMIT
        while not self.waiting:
            ready, _, _ = select.select([self.end], [], [], max(0, deadline - time.monotonic()))
            assert ready, "no reply"
            data = self.end.recv(65536)
            assert data, "the daemon closed its end"
            self.waiting += self.decoder.feed(data)
        return self.waiting.pop(0)

    def collect(self, identity: object) -> tuple[bytes, bytes, Message]:
        """Output of one command until its last reply; replies to other requests are kept."""
        output = {"stdout": bytearray(), "stderr": bytearray()}
        others: list[Message] = []
        while True:
            message = self.receive()
            if message.get("id") != identity:
                others.append(message)
            elif "stream" in message:
                output[message["stream"]] += base64.b64decode(message["data"])
            else:
                self.waiting = others + self.waiting
                return bytes(output["stdout"]), bytes(output["stderr"]), message

    def exec(self, *argv: str, **fields: Any) -> tuple[bytes, bytes, Message]:
        self.send(**{"id": "x", "op": "exec", "argv": list(argv), "timeout": None, **fields})
        return self.collect("x")


@pytest.fixture
def peer() -> Iterator[Peer]:
    ours, theirs = socket.socketpair()
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(theirs.fileno())], pass_fds=[theirs.fileno()]
    )
    theirs.close()
    try:
        client = Peer(ours, process)
        assert client.receive()["hello"]["protocol"] == 1
        yield client
    finally:
        process.kill()
        process.wait()
        ours.close()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_ping_echoes_the_nonce_and_names_the_boot(peer: Peer) -> None:
    peer.send(id=7, op="ping", nonce="n-1")
    reply = peer.receive()
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert reply.pop("uptime") > 0
    assert reply == {"id": 7, "nonce": "n-1", "boot_id": boot_id}


def test_exec_gives_both_streams_and_the_status(peer: Peer) -> None:
    out, err, end = peer.exec("sh", "-c", "echo out; echo err >&2; exit 3")
    assert (out, err) == (b"out\n", b"err\n")
    assert end == {"id": "x", "exit": 3}


def test_a_signals_number_is_negative(peer: Peer) -> None:
    assert peer.exec("sh", "-c", "kill -TERM $$")[2]["exit"] == -signal.SIGTERM


def test_standard_input_larger_than_a_pipe_arrives_whole(peer: Peer) -> None:
    data = os.urandom(700_000)
    out, _, end = peer.exec("cat", stdin=b64(data))
    assert out == data
    assert end["exit"] == 0


def test_a_command_that_ignores_its_input_is_no_failure(peer: Peer) -> None:
    assert peer.exec("true", stdin=b64(bytes(700_000)))[2]["exit"] == 0


def test_without_input_a_command_reads_nothing(peer: Peer) -> None:
    assert peer.exec("cat")[2]["exit"] == 0


def test_output_comes_in_chunks_of_at_most_32_kib(peer: Peer) -> None:
    peer.send(id=1, op="exec", argv=["head", "-c", "300000", "/dev/zero"], timeout=None)
    sizes = []
    while "exit" not in (message := peer.receive()):
        sizes.append(len(base64.b64decode(message["data"])))
    assert sum(sizes) == 300_000
    assert max(sizes) <= 32 * 1024


def test_environment_is_added(peer: Peer) -> None:
    out, _, _ = peer.exec("sh", "-c", 'echo "$ONE:${PATH:+path}"', env={"ONE": "1"})
    assert out == b"1:path\n"


def test_the_broken_pipe_signal_works_in_commands(peer: Peer) -> None:
    assert peer.exec("sh", "-c", "yes | head -n 1", timeout=15)[0] == b"y\n"


def gone(pid: int) -> bool:
    """Whether it has ended, or does so in a moment: a busy host takes time to carry out a kill."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    with open(descriptor):
        return bool(select.select([descriptor], [], [], 30)[0])


def test_a_timeout_kills_the_whole_group_and_keeps_the_output(peer: Peer, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    script = f"echo before; sleep 600 & echo $! > {pid_file}; wait"
    out, _, end = peer.exec("sh", "-c", script, timeout=1.5)
    assert out == b"before\n"
    assert end == {"id": "x", "exit": None, "error": "timeout"}
    assert gone(int(pid_file.read_text()))


def test_a_process_left_in_the_background_does_not_hold_the_reply(peer: Peer) -> None:
    out, _, end = peer.exec("sh", "-c", "sleep 600 & echo $!")
    os.kill(int(out), signal.SIGKILL)
    assert end["exit"] == 0


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (["/nonexistent"], "No such file"),
        (["/etc/passwd"], "Permission denied"),
        (["a\0b"], "null"),
    ],
)
def test_what_cannot_be_run_says_why(peer: Peer, argv: list[str], reason: str) -> None:
    end = peer.exec(*argv)[2]
    assert end["exit"] is None
    assert reason in end["error"]


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ({"op": "dance"}, "unknown op 'dance'"),
        ({"op": ["ping"]}, "unknown op"),
        ({"op": "exec", "argv": []}, "argv"),
        ({"op": "exec", "argv": "ls"}, "argv"),
        ({"op": "exec", "argv": ["ls", 1]}, "argv"),
        ({"op": "exec", "argv": ["ls"], "env": {"A": 1}}, "env"),
        ({"op": "exec", "argv": ["ls"], "stdin": "%"}, "stdin"),
        ({"op": "exec", "argv": ["ls"], "stdin": 5}, "stdin"),
        ({"op": "exec", "argv": ["ls"], "timeout": -1}, "timeout"),
        ({"op": "exec", "argv": ["ls"], "timeout": "1"}, "timeout"),
        ({"op": "resync", "time": "now"}, "time"),
        ({"op": "resync", "time": 0, "entropy": "%"}, "entropy"),
    ],
)
def test_a_malformed_request_is_answered_and_survived(
    peer: Peer, request_: Message, reason: str
) -> None:
    peer.send(id=1, **request_)
    reply = peer.receive()
    assert reply["id"] == 1
    assert reason in reply["error"]
    peer.send(id=2, op="ping", nonce="still here")
    assert peer.receive()["nonce"] == "still here"


def test_noise_and_replies_are_not_requests(peer: Peer) -> None:
    peer.end.sendall(b"noise\n\x1e{broken\n" + encode({"id": 1, "exit": 0}))
    peer.send(id=2, op="ping", nonce="n")
    assert peer.receive()["id"] == 2


def test_requests_are_served_side_by_side(peer: Peer) -> None:
    # The first command ends only when the second has run.
    peer.send(id=1, op="exec", argv=["sh", "-c", "kill -STOP $$; echo woken"], timeout=LIMIT)
    peer.send(id=2, op="ping", nonce="n")
    assert peer.receive()["nonce"] == "n"
    children = Path(f"/proc/{peer.process.pid}/task/{peer.process.pid}/children")
    pid = children.read_text().split()[0]
    wake = f"until grep -q '^State:.T' /proc/{pid}/status; do :; done; kill -CONT {pid}"
    peer.send(id=3, op="exec", argv=["sh", "-c", wake], timeout=LIMIT)
    assert peer.collect(1) == (b"woken\n", b"", {"id": 1, "exit": 0})
    assert peer.collect(3)[2]["exit"] == 0


def test_a_host_that_does_not_read_costs_bounded_memory(peer: Peer) -> None:
    peer.send(id=1, op="exec", argv=["head", "-c", "40000000", "/dev/zero"], timeout=None)
    # The daemon stops reading the command once its backlog is full, and then sits still.
    status = Path(f"/proc/{peer.process.pid}/stat")
    select.select([peer.end], [], [], LIMIT)
    before = -1
    while before != (ticks := _cpu_ticks(status)) or ticks == 0:
        before = ticks
        select.select([], [], [], 0.3)
    with open(f"/proc/{peer.process.pid}/status", encoding="ascii") as file:
        peak = next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
    assert peak < 32 * 1024  # KiB
    out, _, end = peer.collect(1)
    assert len(out) == 40_000_000
    assert end["exit"] == 0


def _cpu_ticks(status: Path) -> int:
    fields = status.read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_commands_end_with_the_host(peer: Peer) -> None:
    peer.send(id=1, op="exec", argv=["sh", "-c", "echo $$; exec sleep 600"], timeout=None)
    pid = int(base64.b64decode(peer.receive()["data"]))
    descriptor = os.pidfd_open(pid)
    peer.end.close()
    try:
        assert select.select([descriptor], [], [], LIMIT)[0], "the command outlived its host"
    finally:
        os.close(descriptor)


def test_it_starts_only_where_it_was_offered() -> None:
    """This machine's own boot was not offered the channel, as any developer's was not."""
    run = subprocess.run(
        [sys.executable, "-m", "product.channel"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 100
    assert "not offered" in run.stderr


def test_it_imports_little() -> None:
    """Imports are on the node's boot path: what is not needed must not creep in."""
    code = "import product.channel.daemon, sys, json; print(json.dumps(sorted(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True
    )
    modules = set(json.loads(run.stdout))
    assert not modules & {"inspect", "dataclasses", "typing", "subprocess", "logging", "asyncio"}
