"""One command that runs for the channel's peer."""

from __future__ import annotations

import contextlib
import os
import signal

from product.channel.framing import CHUNK

# What a command finds when whoever started the daemon gave it nothing.
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Python ignores these, and a child would inherit that: `yes | head` would never end.
_RESTORED_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ)


class Command:
    """A running process in a session of its own, with its pipes and its process descriptor.

    The pipes are non-blocking. ``deadline`` is on the monotonic clock, or None.
    """

    def __init__(
        self, argv: list[str], env: dict[str, str], stdin: bytes | None, deadline: float | None
    ) -> None:
        """Start ``argv``, found on PATH; raises OSError where it cannot be run."""
        self.deadline = deadline
        self.timed_out = False
        self._input = memoryview(stdin or b"")
        environment = {"PATH": DEFAULT_PATH, "HOME": "/", **os.environ, **env}
        out_read, out_write = os.pipe()
        err_read, err_write = os.pipe()
        in_write: int | None = None
        if stdin is None:
            in_read = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        else:
            in_read, in_write = os.pipe()
        try:
            self.pid = os.posix_spawnp(
                argv[0],
                argv,
                environment,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, in_read, 0),
                    (os.POSIX_SPAWN_DUP2, out_write, 1),
                    (os.POSIX_SPAWN_DUP2, err_write, 2),
                ],
                setsid=True,
                setsigdef=_RESTORED_SIGNALS,
            )
        except BaseException:
            os.close(out_read)
            os.close(err_read)
            if in_write is not None:
                os.close(in_write)
            raise
        finally:
            os.close(in_read)
            os.close(out_write)
            os.close(err_write)
        self.process_fd = os.pidfd_open(self.pid)
        self.streams: dict[int, str] = {out_read: "stdout", err_read: "stderr"}
        self.input_fd = in_write
        for descriptor in (*self.streams, *(() if in_write is None else (in_write,))):
            os.set_blocking(descriptor, False)

    def read(self, descriptor: int) -> bytes | None:
        """The next output of at most CHUNK bytes; empty at its end, None while there is none."""
        try:
            return os.read(descriptor, CHUNK)
        except BlockingIOError:
            return None

    def feed(self) -> bool:
        """Write what standard input takes; True when it has had everything or closed it."""
        if self.input_fd is None:
            return True
        try:
            while self._input:
                self._input = self._input[os.write(self.input_fd, self._input) :]
        except BlockingIOError:
            return False
        except BrokenPipeError:
            pass  # The command does not read to the end: its own affair.
        return True

    def kill(self) -> None:
        """End the command and everything in its process group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def reap(self) -> int:
        """Exit status of the ended process; -N after signal N."""
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status)

    def close(self) -> None:
        """Close every descriptor that is still open."""
        for descriptor in (*self.streams, self.process_fd):
            os.close(descriptor)
        if self.input_fd is not None:
            os.close(self.input_fd)
            self.input_fd = None
        self.streams = {}
