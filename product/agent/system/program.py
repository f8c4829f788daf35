"""Running the few programs that the agent needs.

posix_spawn instead of the subprocess module, whose import alone costs the node about as much as
all of the agent's own modules.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from product.agent.errors import AgentError

_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
# Of an output that may be endless: bytes. How long a program has that was told to end: seconds.
_KEPT = 4096
_GRACE = 2.0
_LAST_READS = 16


class ProgramError(AgentError):
    """A program ended with an error."""

    code = "program-failed"


def run(argv: Sequence[str]) -> tuple[int, str]:
    """Run ``argv`` to its end: its exit status (negative: the signal) and all that it printed.

    Raises ProgramError where it cannot be started.
    """
    reader, writer = os.pipe()
    try:
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, writer, 1),
            (os.POSIX_SPAWN_DUP2, writer, 2),
        ]
        environment = {**os.environ, "LC_ALL": "C"}
        # A service's PATH may lack sbin, where the file system tools are.
        environment["PATH"] = _PATH
        try:
            pid = os.posix_spawn(_find(argv[0]), list(argv), environment, file_actions=actions)
        except OSError as error:
            raise ProgramError(f"cannot start {argv[0]}: {error.strerror}") from None
        finally:
            os.close(writer)
        output = bytearray()
        while chunk := os.read(reader, 65536):
            output += chunk
    finally:
        os.close(reader)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), output.decode("utf-8", "replace").strip()


def run_limited(
    argv: Sequence[str], seconds: float, environment: Mapping[str, str]
) -> tuple[int | None, str]:
    """Run ``argv`` in a process group of its own for ``seconds`` at most, with ``environment``
    added: its exit status, None where it had to be ended, and the last of what it printed.

    What it leaves running in the background is not waited for. Raises OSError.
    """
    reader, writer = os.pipe()
    try:
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, writer, 1),
            (os.POSIX_SPAWN_DUP2, writer, 2),
        ]
        whole = {"PATH": _PATH, "LC_ALL": "C", **environment}
        try:
            pid = os.posix_spawn(argv[0], list(argv), whole, file_actions=actions, setpgroup=0)
        finally:
            os.close(writer)
        return _watch(pid, reader, seconds)
    finally:
        os.close(reader)


def _watch(pid: int, reader: int, seconds: float) -> tuple[int | None, str]:
    ended = os.pidfd_open(pid)
    os.set_blocking(reader, False)
    output = bytearray()
    try:
        in_time = _collect(ended, reader, output, seconds)
        if not in_time:
            _signal_group(pid, signal.SIGTERM)
            _collect(ended, reader, output, _GRACE)
            _signal_group(pid, signal.SIGKILL)
            _collect(ended, reader, output, _GRACE)
        # One that a disk holds cannot be waited for.
        waited, status = os.waitpid(pid, 0 if in_time else os.WNOHANG)
    finally:
        os.close(ended)
    told = output.decode("utf-8", "replace").strip()
    return (os.waitstatus_to_exitcode(status) if in_time and waited else None), told


def _collect(ended: int, reader: int, output: bytearray, seconds: float) -> bool:
    """Keep the last of what comes until the process has ended; whether it has in time."""
    end = time.monotonic() + seconds
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    poll.register(reader, select.POLLIN)
    while True:
        left = end - time.monotonic()
        ready = dict(poll.poll(max(0.0, left) * 1000))
        if reader in ready and not _read_some(reader, output):
            poll.unregister(reader)
        if ended in ready:
            # Its last words; what it left in the background may talk for ever.
            for _ in range(_LAST_READS):
                if not _read_some(reader, output):
                    break
            return True
        if left <= 0:
            return False


def _read_some(reader: int, output: bytearray) -> bool:
    """Whether there may be more."""
    try:
        chunk = os.read(reader, 65536)
    except BlockingIOError:
        return False
    output += chunk
    del output[:-_KEPT]
    return bool(chunk)


def _signal_group(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, number)


def require(argv: Sequence[str]) -> None:
    """Run ``argv``; raises ProgramError with its output where it fails."""
    status, output = run(argv)
    if status != 0:
        raise ProgramError(f"{' '.join(argv)} failed ({status}): {_one_line(output)}")


def _find(name: str) -> str:
    if "/" in name:
        return name
    for directory in ("/usr/sbin", "/usr/bin", "/sbin", "/bin"):
        path = f"{directory}/{name}"
        if os.access(path, os.X_OK):
            return path
    return f"/usr/bin/{name}"


def _one_line(text: str) -> str:
    return " | ".join(line.strip() for line in text.splitlines() if line.strip()) or "no output"
