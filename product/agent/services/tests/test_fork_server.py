"""Commands by the resident process are what they are without it, and nothing depends on it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from product.agent.services import fork_server

ROOT = Path(__file__).parents[4]
# A command that says all that it was given, and does what its first argument says.
COMMAND = """
import os, sys, time

def command(arguments):
    if arguments[0] == "tell":
        print(arguments[1:], os.getcwd(), os.environ.get("MARK"), os.environ.get("HOME"))
        mask = os.umask(0); os.umask(mask)
        print(oct(mask), os.getpriority(os.PRIO_PROCESS, 0), sys.stdin.read())
        print("to stderr", file=sys.stderr)
        return 11
    if arguments[0] == "echo":
        print("waits", flush=True)
        print(sys.stdin.read())
        return 11
    if arguments[0] == "fail":
        raise RuntimeError("no such luck")
    if arguments[0] == "child":
        return os.waitstatus_to_exitcode(os.system("exit 3"))
    if arguments[0] == "wait":
        try:
            print("waits", flush=True)
            # Short ones: a signal between two instructions does not end a long one.
            for _ in range(600):
                time.sleep(0.1)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
            open(arguments[1], "w").close()
            raise
    return 0
"""
SERVE = f"""{COMMAND}
from product.agent.services.fork_server import serve
serve(sys.argv[1], command)
"""
# The command by itself is another one here, so that it shows who ran it.
LAUNCH = """
import signal, sys
# Who runs tests in the background ignores it.
signal.signal(signal.SIGINT, signal.default_int_handler)
import product.agent.cli
from types import ModuleType
alone = ModuleType("product.agent.cli.main")
alone.main = lambda arguments: print("alone") or 0
sys.modules[alone.__name__] = alone
from product.agent.cli.launch import launch
sys.exit(launch(sys.argv[2:], sys.argv[1]))
"""


def start(script: str, *arguments: str, **keywords: Any) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **keywords.pop("env", {})}
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **keywords,
    )  # fmt: skip


def wait_until(condition: Any) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "it did not come to that in 30 s"
        time.sleep(0.01)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "agent.sock")


@pytest.fixture
def server(path: str) -> Iterator[subprocess.Popen[str]]:
    with start(SERVE, path) as process:
        wait_until(lambda: os.path.exists(path) and accepts(path))
        yield process
        process.kill()


def accepts(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as caller:
        return caller.connect_ex(path) == 0


def run(path: str, *arguments: str, **keywords: Any) -> subprocess.CompletedProcess[str]:
    given = keywords.pop("input", None)
    process = start(LAUNCH, path, *arguments, stdin=subprocess.PIPE, **keywords)
    out, err = process.communicate(given, timeout=30)
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


@pytest.mark.usefixtures("server")
def test_a_command_has_all_that_its_caller_has(path: str, tmp_path: Path) -> None:
    folder = tmp_path / "somewhere"
    folder.mkdir()
    strange = os.fsdecode(b"caf\xe9")
    done = run(
        path, "tell", "a b", "", strange, input="given",
        cwd=folder, umask=0o027, env={"MARK": "x=y", "HOME": ""},
        preexec_fn=lambda: os.nice(3) and None,
    )  # fmt: skip
    assert done.stdout == (f"{['a b', '', strange]} {folder} x=y \n0o27 {os.nice(0) + 3} given\n")
    assert (done.returncode, done.stderr) == (11, "to stderr\n")


@pytest.mark.usefixtures("server")
def test_a_command_waits_for_its_own_programs(path: str) -> None:
    assert run(path, "child").returncode == 3


@pytest.mark.usefixtures("server")
def test_what_breaks_in_a_command_is_said_to_its_caller(path: str) -> None:
    done = run(path, "fail")
    assert done.returncode == 1
    assert done.stderr.endswith("RuntimeError: no such luck\n")
    assert run(path, "child").returncode == 3


def test_without_a_server_the_command_runs_by_itself(path: str) -> None:
    assert run(path, "tell").stdout == "alone\n"


def test_a_server_that_is_gone_leaves_a_socket(server: subprocess.Popen[str], path: str) -> None:
    server.kill()
    server.wait()
    assert os.path.exists(path)
    assert run(path, "tell").stdout == "alone\n"


@pytest.mark.usefixtures("server")
def test_a_closed_standard_file_is_for_the_command_to_judge(path: str) -> None:
    process = start(LAUNCH, path, "tell", preexec_fn=lambda: os.close(0))
    assert process.communicate(timeout=30)[0] == "alone\n"


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_who_leaves_interrupts_the_command(path: str, tmp_path: Path, how: signal.Signals) -> None:
    mark = tmp_path / "interrupted"
    process = start(LAUNCH, path, "wait", str(mark))
    assert process.stdout is not None
    assert process.stdout.readline() == "waits\n"
    process.send_signal(how)
    wait_until(mark.exists)
    out, err = process.communicate(timeout=30)
    assert process.returncode == (130 if how is signal.SIGINT else -signal.SIGKILL)
    assert (out, err) == ("interrupted\n", "")


@pytest.mark.parametrize("answer", [b"", fork_server.BEGUN, fork_server.BEGUN + b"\x82"])
def test_an_interrupt_at_any_time_ends_it_quietly(path: str, answer: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        process = start(LAUNCH, path, "tell")
        caller, _ = listener.accept()
        with caller:
            caller.settimeout(30)
            # All of it, up to its standard files: from here on it waits for BEGUN.
            head = caller.recv(6)
            wanted = int.from_bytes(head[2:], "big")
            while wanted:
                wanted -= len(caller.recv(wanted))
            process.send_signal(signal.SIGINT)
            # It is heard here, whatever the caller was about to do.
            assert caller.recv(1) == b""
            caller.sendall(answer)
        assert process.communicate(timeout=30) == ("", "")
        assert process.returncode == 130


def test_a_command_outlives_its_server(server: subprocess.Popen[str], path: str) -> None:
    process = start(LAUNCH, path, "echo", stdin=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "waits\n"
    server.kill()
    server.wait()
    assert process.communicate("late", timeout=30) == ("late\n", "")
    assert process.returncode == 11


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    "message",
    [
        b"", b"\0", b"GET / HTTP/1.1\r\n\r\n", b"K1\0\0\0\1", b"K1\xff\xff\xff\xff",
        b"K1\0\0\0\1x", b"K1\0\0\0\x08" + b"a\0b\0c\0d\0",
    ],
)  # fmt: skip
def test_nonsense_is_answered_by_an_end(path: str, message: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(30)
        caller.connect(path)
        caller.sendall(message)
        caller.shutdown(socket.SHUT_WR)
        # What it left unread makes the end a reset one.
        with contextlib.suppress(ConnectionResetError):
            assert caller.recv(10) == b""
    assert run(path, "child").returncode == 3


@pytest.mark.usefixtures("server")
def test_no_finished_command_stays(server: subprocess.Popen[str], path: str) -> None:
    for _ in range(3):
        run(path, "child")
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children")
    wait_until(lambda: children.read_text() == "")


@pytest.mark.usefixtures("server")
def test_the_socket_is_its_owners_alone(path: str) -> None:
    assert os.stat(path).st_mode & 0o777 == 0o600


@pytest.mark.parametrize("what", ["user", "namespace", "root"])
def test_only_processes_alike_are_served(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    here, there = socket.socketpair()
    with here, there:
        fork_server.require_alike(here)
        if what == "user":
            user = os.getuid()
            monkeypatch.setattr(os, "getuid", lambda: user + 1)
        elif what == "namespace":
            found = iter(["mnt:[1]", "mnt:[2]"])
            monkeypatch.setattr(os, "readlink", lambda path: next(found))
        else:
            monkeypatch.setattr(os.path, "samestat", lambda one, other: False)
        with pytest.raises(fork_server.RefusedError):
            fork_server.require_alike(here)
