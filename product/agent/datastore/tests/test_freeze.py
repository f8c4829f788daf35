"""Stopping real processes, and letting them go whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from product.agent.datastore.freeze import FreezeError, find_writers, frozen, service_pid

# Appends a line every few milliseconds, from a second thread as well.
WRITER = """
import sys, threading, time
def write(name):
    with open(f"{sys.argv[1]}/{name}", "a", buffering=1) as file:
        while True:
            file.write("x\\n")
            time.sleep(0.005)
threading.Thread(target=write, args=("second",), daemon=True).start()
write("first")
"""


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    store = tmp_path / "store"
    store.mkdir()
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(store)])
    deadline = time.monotonic() + 20
    while not ((store / "first").exists() and (store / "second").exists()):
        assert time.monotonic() < deadline, "the writer does not write"
        time.sleep(0.01)
    yield process
    process.send_signal(signal.SIGCONT)
    process.kill()
    process.wait()


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def sizes(store: Path) -> list[int]:
    return [path.stat().st_size for path in sorted(store.iterdir())]


def goes_on(pid: int, store: Path, seconds: float = 5) -> bool:
    before, end = sizes(store), time.monotonic() + seconds
    while time.monotonic() < end:
        if state(pid) != "T" and all(a < b for a, b in zip(before, sizes(store), strict=True)):
            return True
        time.sleep(0.01)
    return False


def test_a_frozen_process_writes_nothing(writer: subprocess.Popen[bytes], tmp_path: Path) -> None:
    store = tmp_path / "store"
    assert find_writers(str(store)) == [writer.pid]
    with frozen([writer.pid], 20):
        before = sizes(store)
        time.sleep(0.2)
        assert sizes(store) == before
        assert state(writer.pid) == "T"
    assert goes_on(writer.pid, store)


def test_an_error_lets_it_go(writer: subprocess.Popen[bytes], tmp_path: Path) -> None:
    with pytest.raises(OSError, match="full"), frozen([writer.pid], 20):
        raise OSError("full")
    assert goes_on(writer.pid, tmp_path / "store")


def test_the_limit_lets_it_go_and_spoils_the_copy(
    writer: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    with pytest.raises(FreezeError, match=r"longer than 0\.2 s"), frozen([writer.pid], 0.2):
        assert goes_on(writer.pid, tmp_path / "store")


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_death_of_the_agent_lets_it_go(
    writer: subprocess.Popen[bytes], tmp_path: Path, end: signal.Signals
) -> None:
    agent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import signal, time\n"
            "from product.agent.datastore.freeze import frozen\n"
            # A shell has what it runs in the background ignore this one.
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            f"with frozen([{writer.pid}], 60):\n"
            "    print('frozen', flush=True)\n"
            "    time.sleep(60)\n",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=Path(__file__).parents[4],
        start_new_session=True,
    )
    assert agent.stdout is not None
    assert agent.stdout.readline() == b"frozen\n"
    assert state(writer.pid) == "T"
    # The whole group, as a terminal or a supervisor would.
    os.killpg(agent.pid, end)
    agent.wait()
    agent.stdout.close()
    assert goes_on(writer.pid, tmp_path / "store")


def test_a_process_that_is_gone_is_no_error() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    with frozen([gone.pid], 5):
        pass
    with frozen([], 5):
        pass


def test_a_reader_is_no_writer(tmp_path: Path) -> None:
    path = tmp_path / "store" / "file"
    path.parent.mkdir()
    path.write_text("x")
    with open(path, encoding="ascii"):
        assert find_writers(str(path.parent)) == []


@pytest.mark.parametrize(
    ("text", "pid"), [("123\n", 123), ("", None), ("0\n", None), ("1\n", None), ("x", None)]
)
def test_the_pid_that_runsv_keeps(tmp_path: Path, text: str, pid: int | None) -> None:
    (tmp_path / "supervise").mkdir()
    (tmp_path / "supervise/pid").write_text(text)
    assert service_pid(str(tmp_path)) == pid
    assert service_pid(str(tmp_path / "none")) is None
