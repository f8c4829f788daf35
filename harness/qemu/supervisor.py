"""A process of its own that owns one machine's QEMU, so that nothing outlives the runner.

Run as ``python3 -I -S -E supervisor.py CONTROL RUN_DIRECTORY`` where CONTROL is the descriptor of a
SOCK_SEQPACKET socket whose other end the runner holds. However the runner dies, the kernel closes
that end; then QEMU's process group is killed and reaped, and the run directory is removed. QEMU
itself asks the kernel for SIGKILL should this process die first.

Requests (JSON, one a packet): ``{"start": [argv...], "log": PATH}`` with QEMU's descriptors
attached, each kept at its number in ``"fds"``, and ``"nice"``, how far QEMU gives way to others;
with ``"beside"``, the same for a program that QEMU needs: it is started first, is of QEMU's group,
and ends with it;
``{"kill": true}``. Notices: ``{"started": pid}``,
``{"refused": reason}``, ``{"exited": status, "cpu": seconds}`` with a negative status for a signal
and the processors' time that QEMU took.

The standard library's cheapest modules alone: it starts before every machine.
"""

import array
import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import socket
import sys

_PACKET = 256 * 1024
_MOST_DESCRIPTORS = 16
_PR_SET_PDEATHSIG = 1


class Supervisor:
    """Waits for requests, for QEMU's end and for the runner's."""

    def __init__(self, control: socket.socket, directory: str) -> None:
        self._control = control
        self._directory = directory
        self._libc = ctypes.CDLL(None)
        self._poll = select.poll()
        self._poll.register(control.fileno(), select.POLLIN)
        self._pid = 0
        self._process = -1
        self._beside = 0

    def run(self) -> None:
        """Serve until the runner is gone; then leave nothing behind."""
        try:
            while self._serve():
                pass
        finally:
            self._kill()
            self._reap(tell=False)
            shutil.rmtree(self._directory, ignore_errors=True)

    def _serve(self) -> bool:
        ready = {descriptor for descriptor, _ in self._poll.poll()}
        if self._process in ready:
            self._reap(tell=True)
        if self._control.fileno() not in ready:
            return True
        try:
            packet, descriptors = _receive(self._control)
        except ConnectionResetError:
            return False
        if not packet:
            return False
        request = json.loads(packet)
        if "start" in request:
            self._start(request, descriptors)
        elif "kill" in request:
            self._kill()
        return True

    def _start(self, request: dict[str, object], descriptors: list[int]) -> None:
        if self._pid:
            self._tell({"refused": f"QEMU is already running as {self._pid}"})
            return
        argv = request["start"]
        numbers = request["fds"]
        nice = request["nice"]
        beside = request.get("beside")
        log = str(request["log"])
        assert isinstance(argv, list)  # the runner's own packet
        assert isinstance(numbers, list)
        assert isinstance(nice, int)
        given = dict(zip(numbers, descriptors, strict=True))
        others: dict[int, int] = {}
        failure = b""
        if isinstance(beside, dict):
            others = {number: given.pop(number) for number in beside["fds"]}
            self._beside, failure = self._launch(beside["argv"], others, log, nice, 0)
        pid = 0
        if not failure:
            pid, failure = self._launch(argv, given, log, nice, self._beside)
        for descriptor in descriptors:
            os.close(descriptor)
        if failure:
            self._end_beside()
            self._tell({"refused": failure.decode("utf-8", "replace")})
            return
        self._pid = pid
        self._process = os.pidfd_open(pid)
        self._poll.register(self._process, select.POLLIN)
        self._tell({"started": pid})

    def _launch(
        self, argv: list[str], descriptors: dict[int, int], log: str, nice: int, group: int
    ) -> tuple[int, bytes]:
        """Start a program in ``group``, or in one of its own: its process id, or why it did not."""
        failure_read, failure_write = os.pipe()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                _give_way(nice)
                self._become(argv, descriptors, log, parent, failure_write, group)
            finally:
                os._exit(127)
        os.close(failure_write)
        with os.fdopen(failure_read, "rb") as stream:
            failure = stream.read()
        if failure:
            os.waitpid(pid, 0)
            return 0, failure
        return pid, b""

    def _become(
        self,
        argv: list[str],
        descriptors: dict[int, int],
        log: str,
        parent: int,
        failure: int,
        group: int,
    ) -> None:
        """In the child: turn into QEMU. The pipe ``failure`` closes with a successful exec."""
        try:
            os.setpgid(0, group)
            self._libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != parent:  # It died before the kernel knew whom to watch.
                os._exit(127)
            # First out of the way of every wanted number, then to the numbers themselves.
            base = max([*descriptors, failure, 2]) + 1
            moved = {n: _duplicate(fd, base) for n, fd in descriptors.items()}
            failure = _duplicate(failure, base)
            _close_on_exec()
            for number, descriptor in moved.items():
                os.dup2(descriptor, number, inheritable=True)
            null = os.open("/dev/null", os.O_RDONLY)
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            os.dup2(null, 0)
            os.dup2(output, 1)
            os.dup2(output, 2)
            for number in (signal.SIGPIPE, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            os.execv(argv[0], argv)
        except OSError as error:
            os.write(failure, f"{argv[0]}: {error.strerror}".encode())

    def _kill(self) -> None:
        if self._pid:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._beside or self._pid, signal.SIGKILL)

    def _end_beside(self) -> None:
        if self._beside:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._beside, signal.SIGKILL)
            os.waitpid(self._beside, 0)
            self._beside = 0

    def _reap(self, tell: bool) -> None:
        if not self._pid:
            return
        # What QEMU started itself is in its group still. Until QEMU is reaped, the group's number
        # cannot be anybody else's.
        self._kill()
        _, status, usage = os.wait4(self._pid, 0)
        self._end_beside()
        self._poll.unregister(self._process)
        os.close(self._process)
        self._pid = 0
        self._process = -1
        if tell:
            cpu = usage.ru_utime + usage.ru_stime
            self._tell({"exited": os.waitstatus_to_exitcode(status), "cpu": cpu})

    def _tell(self, notice: dict[str, object]) -> None:
        # Where the runner is gone, the next receive sees it.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._control.send(json.dumps(notice).encode())


def _receive(control: socket.socket) -> tuple[bytes, list[int]]:
    """One packet and its descriptors, which no program inherits; empty where nobody sends any more.

    socket.recv_fds() ignores its flags.
    """
    descriptors = array.array("i")
    room = socket.CMSG_LEN(_MOST_DESCRIPTORS * descriptors.itemsize)
    packet, messages, _, _ = control.recvmsg(_PACKET, room, socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in messages:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    return packet, list(descriptors)


def _close_on_exec() -> None:
    """Keep every descriptor of this process but the standard ones from the next program."""
    for name in os.listdir("/proc/self/fd"):
        # The listing's own is closed by now.
        with contextlib.suppress(OSError):
            if int(name) > 2:
                os.set_inheritable(int(name), False)


def _give_way(nice: int) -> None:
    reached = os.nice(nice)
    # Where the kernel groups processes by session, it shares processors out among the groups.
    with contextlib.suppress(OSError), open("/proc/self/autogroup", "w") as group:
        group.write(str(reached))


def _duplicate(descriptor: int, lowest: int) -> int:
    import fcntl

    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, lowest)


def _stop(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def main() -> None:
    """Take the control socket and the run directory from the command line, and supervise."""
    os.setsid()  # A terminal's interrupt is the runner's to handle.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    control = socket.socket(fileno=int(sys.argv[1]))
    Supervisor(control, sys.argv[2]).run()


if __name__ == "__main__":
    main()
