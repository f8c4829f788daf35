"""Stopping the processes that write a directory, for the moment that a copy takes.

They are stopped by SIGSTOP, so what is copied is what a killed process would have left. A guard, a
process of its own, lets them go on when this one is done, when it dies, and after a limit.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from product.agent.errors import AgentError

PROC = "/proc"
# How long threads may take to stop: one that waits for the disk stops when that has answered.
STOP_SECONDS = 10
EXPIRED = 3


class FreezeError(AgentError):
    """The processes could not be stopped, or were let go before the copy was complete."""

    code = "writer-not-stopped"


def service_pid(directory: str) -> int | None:
    """The process of the service that runsv keeps in ``directory``; None where it is down."""
    try:
        with open(f"{directory}/supervise/pid", encoding="ascii") as file:
            text = file.read(32).strip()
    except (OSError, UnicodeDecodeError):
        return None
    return int(text) if text.isdigit() and int(text) > 1 else None


def find_writers(directory: str) -> list[int]:
    """Processes that hold a file under ``directory`` open for writing."""
    prefix = f"{os.path.realpath(directory)}/"
    found = []
    for name in os.listdir(PROC):
        # A process may end at any moment, and takes its files along.
        with suppress(OSError):
            if name.isdigit() and int(name) != os.getpid() and _writes(name, prefix):
                found.append(int(name))
    return found


@contextmanager
def frozen(pids: list[int], seconds: float) -> Iterator[None]:
    """Keep ``pids`` stopped, at most for ``seconds``.

    Raises FreezeError where they do not stop, and at the end where the limit was exceeded.
    """
    import signal

    if not pids:
        yield
        return
    reader, writer = os.pipe()
    ready, on_guard = os.pipe()
    guard = os.fork()
    if guard == 0:
        os.close(writer)
        _guard(pids, reader, seconds, on_guard)
    os.close(reader)
    os.close(on_guard)
    try:
        # Not before the guard is out of reach of what may end this process's group.
        if not os.read(ready, 1):
            raise FreezeError("the guard of the stopped processes ended at once")
        for pid in pids:
            _signal(pid, signal.SIGSTOP)
        _await_stop(pids)
        yield
    finally:
        # The guard sees the end of the pipe; should it have been killed, this one is left.
        os.close(writer)
        os.close(ready)
        _, status = os.waitpid(guard, 0)
        for pid in pids:
            _signal(pid, signal.SIGCONT)
    if os.waitstatus_to_exitcode(status) == EXPIRED:
        raise FreezeError(
            f"the copy took longer than {seconds:g} s, for which its writer may be stopped",
            hint="the disk is slow, or busy with something else; try again later",
        )


def _guard(pids: list[int], reader: int, seconds: float, on_guard: int) -> None:
    """The guard's whole life; never returns."""
    import select
    import signal

    ended: list[int] = []
    try:
        # Not to die with this process's group, nor of what ends it politely.
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        os.write(on_guard, b"!")
        ended = select.select([reader], [], [], seconds)[0]
    finally:
        for pid in pids:
            _signal(pid, signal.SIGCONT)
        os._exit(0 if ended else EXPIRED)


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _await_stop(pids: list[int]) -> None:
    end = time.monotonic() + STOP_SECONDS
    while running := [pid for pid in pids if not _is_stopped(pid)]:
        if time.monotonic() > end:
            raise FreezeError(f"process {running[0]} did not stop within {STOP_SECONDS} s")
        time.sleep(0.01)


def _is_stopped(pid: int) -> bool:
    """Whether every thread is stopped or gone."""
    try:
        threads = os.listdir(f"{PROC}/{pid}/task")
    except OSError:
        return True
    for thread in threads:
        try:
            with open(f"{PROC}/{pid}/task/{thread}/stat", "rb") as file:
                # The second field is the program's name in parentheses, which may hold anything.
                state = file.read().rpartition(b")")[2].split()[0]
        except (OSError, IndexError):
            continue
        if state not in (b"T", b"t", b"Z", b"X"):
            return False
    return True


def _writes(pid: str, prefix: str) -> bool:
    for name in os.listdir(f"{PROC}/{pid}/fd"):
        with suppress(OSError):
            if os.readlink(f"{PROC}/{pid}/fd/{name}").startswith(prefix):
                with open(f"{PROC}/{pid}/fdinfo/{name}", encoding="ascii") as file:
                    flags = next((line for line in file if line.startswith("flags:")), "flags: 0")
                if int(flags.split()[1], 8) & (os.O_WRONLY | os.O_RDWR):
                    return True
    return False
