"""Asking what may never answer, such as a disk.

Whoever waits for a disk may sleep where no signal wakes it. A thread that does so keeps its process
from ending, so a child asks: it holds nothing of the agent's, and one that cannot be killed is left
behind.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from product.agent.errors import AgentError

# How long a child that was told to end has for it before it counts as one that cannot: seconds.
GRACE = 0.5
# The first pause between two looks whether it has, and the longest: seconds.
_LOOK, _LONGEST_LOOK = 0.0005, 0.02


class NoAnswerError(AgentError):
    """No answer came in time, or the child ended without one."""

    code = "no-answer"


class IsolatedRunner:
    """Asks in children, at most one for each ``name``: what hangs is not asked twice."""

    def __init__(self) -> None:
        self._left: dict[str, int] = {}

    def run(self, name: str, seconds: float, question: Callable[[], bytes]) -> bytes:
        """What ``question`` returns in a child. Raises NoAnswerError, or OSError for no child.

        A child that hung the last time is waited for instead of another, and then asked anew.
        """
        end = time.monotonic() + seconds
        if not self._is_gone(name, seconds):
            raise _late(seconds)
        reader, writer = os.pipe()
        try:
            try:
                self._left[name] = os.fork()
                if not self._left[name]:
                    _answer(question, writer)
            finally:
                os.close(writer)
            data = _read(reader, end)
        finally:
            os.close(reader)
            self._end(name)
        if data is None:
            raise _late(seconds)
        if not data:
            raise NoAnswerError("no answer: the process that was to ask for it has died")
        return data

    def _end(self, name: str) -> None:
        pid = self._left.get(name)
        if pid:
            with suppress(ProcessLookupError):
                os.kill(pid, 9)
            self._is_gone(name, GRACE)

    def _is_gone(self, name: str, seconds: float) -> bool:
        """Whether the child of ``name`` has ended, for which it has ``seconds``."""
        pid = self._left.get(name)
        if not pid:
            return True
        end = time.monotonic() + seconds
        pause = _LOOK
        while os.waitpid(pid, os.WNOHANG)[0] == 0:
            if time.monotonic() >= end:
                return False
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_LOOK)
        del self._left[name]
        return True


def _late(seconds: float) -> NoAnswerError:
    return NoAnswerError(f"no answer within {seconds:g} s")


def _answer(question: Callable[[], bytes], writer: int) -> NoReturn:
    """The child: whatever happens, it ends here."""
    status = 1
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(null, descriptor)
        # The agent's lock among them: a child that hangs would hold it for ever.
        os.closerange(3, writer)
        os.closerange(writer + 1, os.sysconf("SC_OPEN_MAX"))
        data = question()
        while data:
            data = data[os.write(writer, data) :]
        status = 0
    finally:
        os._exit(status)


def _read(reader: int, end: float) -> bytes | None:
    """All that comes until the other side closes; None where that is not before ``end``."""
    import select

    poll = select.poll()
    poll.register(reader, select.POLLIN)
    data = b""
    while True:
        if not poll.poll(max(0.0, end - time.monotonic()) * 1000):
            return None
        chunk = os.read(reader, 65536)
        if not chunk:
            return data
        data += chunk
