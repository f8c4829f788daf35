"""The runner's side of the supervisor: one machine's QEMU process and its run directory."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harness.deadline import Deadline
from harness.errors import DeadlineError, LaunchError
from harness.journal.journal import Journal, Source
from harness.qemu import supervisor

_PACKET = 64 * 1024
# A run directory is not locked yet in its first moments; seconds.
_YOUNG = 60.0
# Seconds that an end may take that is not waited for any longer.
_END = 30.0


class Process:
    """QEMU under a supervisor, started and ended any number of times in one run directory.

    Start and exit are events of the journal. ``close`` ends everything and removes the directory;
    the runner's death does the same.
    """

    def __init__(
        self, runs: Path, journal: Journal, drain: Callable[[], None], program: str = "QEMU"
    ) -> None:
        """Make a run directory below ``runs`` and start its supervisor.

        ``drain`` is called between QEMU's end and the event of it: what QEMU wrote before comes
        first in the journal. ``program`` is what messages call another program than QEMU.
        """
        self._drain = drain
        self._program = program
        runs.mkdir(parents=True, exist_ok=True)
        _sweep(runs)
        self.directory = Path(tempfile.mkdtemp(prefix="machine-", dir=runs))
        # Locked for as long as the supervisor lives.
        in_use = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(in_use, fcntl.LOCK_SH)
        self.log_path = self.directory / "qemu.log"
        self._journal = journal
        self._condition = threading.Condition()
        self._answer: dict[str, Any] | None = None
        self._pid: int | None = None
        # Asked of each end with its status: whether another QEMU follows at once.
        self.restarts: Callable[[int], bool] = lambda status: False
        self._status: int | None = None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control = ours
        command = [sys.executable, "-I", "-S", "-E", supervisor.__file__]
        with theirs:
            self._supervisor = subprocess.Popen(
                [*command, str(theirs.fileno()), str(self.directory)],
                pass_fds=[theirs.fileno(), in_use],
                stdin=subprocess.DEVNULL,
            )
        os.close(in_use)
        self._thread = threading.Thread(target=self._listen, name="supervisor", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """QEMU's process id while it runs."""
        return self._pid

    def start(
        self,
        argv: Sequence[str],
        descriptors: Sequence[int],
        deadline: Deadline,
        *,
        nice: int = 0,
        beside: tuple[Sequence[str], Sequence[int]] | None = None,
    ) -> int:
        """Run ``argv`` with ``descriptors`` open at their own numbers; returns its process id.

        ``nice`` is 0 to 19: how far it gives way to other processes. ``beside`` is a program that
        it needs, with descriptors of that one's own: it runs for as long. The caller closes its
        copies of the descriptors afterwards. Raises LaunchError.
        """
        with self._condition:
            self._answer = None
        numbers = [*descriptors, *(beside[1] if beside else ())]
        request: dict[str, object] = {
            "start": list(argv),
            "fds": numbers,
            "log": str(self.log_path),
            "nice": nice,
        }
        if beside:
            request["beside"] = {"argv": list(beside[0]), "fds": list(beside[1])}
        socket.send_fds(self._control, [json.dumps(request).encode()], numbers)
        with self._condition:
            if not self._condition.wait_for(lambda: self._answer is not None, deadline.remaining):
                raise LaunchError(f"the supervisor did not answer for {deadline.seconds:.0f} s")
            answer: dict[str, Any] = self._answer or {}
        if "refused" in answer:
            raise LaunchError(f"{self._program} could not be started: {answer['refused']}")
        return int(answer["started"])

    def kill(self, deadline: Deadline) -> int:
        """SIGKILL to QEMU's whole group; returns the status once it is reaped (-9)."""
        self._control.send(b'{"kill": true}')
        return self.wait(deadline)

    def wait(self, deadline: Deadline) -> int:
        """The exit status of QEMU once it has ended; raises DeadlineError."""
        with self._condition:
            if not self._condition.wait_for(lambda: self._pid is None, deadline.remaining):
                raise DeadlineError(
                    f"{self._program} {self._pid} still runs after {deadline.seconds:.0f} s"
                )
            return self._status if self._status is not None else 0

    def last_words(self) -> str:
        """What QEMU wrote to its standard error."""
        try:
            return self.log_path.read_text(errors="replace").strip()
        except OSError:
            return ""

    def close(self) -> None:
        """End QEMU and the supervisor; the run directory is gone afterwards."""
        if self._pid is not None:
            # Asked for, its end is told with what it took; the supervisor's own end tells nothing.
            with contextlib.suppress(DeadlineError, OSError):
                self.kill(Deadline.after(_END))
        self._control.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._control.close()
        try:
            self._supervisor.wait(timeout=_END)
        except subprocess.TimeoutExpired:
            # QEMU follows by its own request to the kernel; only the directory is left.
            self._supervisor.kill()
            self._supervisor.wait()

    def _listen(self) -> None:
        while True:
            try:
                packet = self._control.recv(_PACKET)
            except OSError:
                packet = b""
            notice = json.loads(packet) if packet else {"gone": True}
            if "started" not in notice and "refused" not in notice:
                try:
                    self._drain()
                except Exception as error:
                    self._journal.broken("the wait for QEMU's last output", error)
            again = "exited" in notice and self.restarts(int(notice["exited"]))
            with self._condition:
                if "started" in notice:
                    self._pid = int(notice["started"])
                    self._journal.append(Source.HARNESS, "start", f"{self._program} {self._pid}")
                if "exited" in notice or ("gone" in notice and self._pid is not None):
                    self._status = int(notice.get("exited", -signal.SIGKILL))
                    text = f"{self._program} {self._pid} ended with status {self._status}"
                    self._pid = None
                    cpu = float(notice.get("cpu", 0.0))
                    data: dict[str, Any] = {"status": self._status, "cpu_seconds": round(cpu, 3)}
                    if again:
                        data["again"] = True
                    self._journal.append(Source.HARNESS, "exit", text, **data)
                if "started" in notice or "refused" in notice:
                    self._answer = notice
                elif "gone" in notice:
                    self._answer = self._answer or {"refused": "the supervisor ended"}
                self._condition.notify_all()
            if not packet:
                return


def _sweep(runs: Path) -> None:
    """Remove what is left where a supervisor was killed too, by a host that lost power, say."""
    for folder in runs.glob("machine-*"):
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime < _YOUNG:
                continue
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)


def _stat(pid: int) -> list[str]:
    """Fields 3 (the state) and on of ``/proc/PID/stat``, see proc(5). Raises OSError."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        # The name before them may hold blanks and brackets.
        return file.read().rpartition(")")[2].split()


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return _stat(pid)[0] != "Z"
    except OSError:
        return False


def start_time(pid: int) -> int | None:
    """Clock ticks since boot at which ``pid`` started, which tells it from a later namesake."""
    try:
        return int(_stat(pid)[19])
    except OSError:
        return None


def cpu_seconds(pid: int) -> float:
    """Seconds of processors that ``pid`` has used so far, in all its threads. Raises OSError."""
    user, system = _stat(pid)[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
