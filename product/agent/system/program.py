"""Running the few programs that the agent needs.

posix_spawn instead of the subprocess module, whose import alone costs the node about as much as
all of the agent's own modules.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from product.agent.errors import AgentError


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
        environment["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin"
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
