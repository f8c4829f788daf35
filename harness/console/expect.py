"""pexpect on the recorded console: boot menus and the emergency shell.

Everything else uses the command channel: a kernel message may land in the middle of any prompt.
"""

from __future__ import annotations

import queue
import select
import socket
import time
from types import TracebackType
from typing import TYPE_CHECKING

import pexpect
from pexpect.spawnbase import SpawnBase

from harness.console.recorder import Recorder

# pexpect searches its whole buffer at each read unless told otherwise.
_SEARCH_WINDOW = 16 * 1024

_END = b""

if TYPE_CHECKING:
    _Spawn = SpawnBase[bytes]
else:
    _Spawn = SpawnBase  # generic for type checkers alone


class ConsoleExpect(_Spawn):
    """A pexpect session that sees the console from byte ``since`` on.

    ``expect`` and its kin raise pexpect.TIMEOUT, pexpect.EOF (the machine ended) and ObserverError.
    Use it as a context manager, so that it stops listening.
    """

    def __init__(
        self, recorder: Recorder, console: socket.socket, *, since: int, timeout: float
    ) -> None:
        super().__init__(timeout=timeout, maxread=64 * 1024, searchwindowsize=_SEARCH_WINDOW)
        self._recorder = recorder
        self._console = console
        self._queue: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._pending = b""
        recorder.subscribe(self._queue.put, since)

    def read_nonblocking(self, size: int = 1, timeout: float | None = -1) -> bytes:
        """At most ``size`` new bytes; raises pexpect.TIMEOUT or pexpect.EOF."""
        if not self._pending:
            limit = self.timeout if timeout == -1 else timeout
            try:
                self._pending = self._queue.get(timeout=None if limit is None else max(0, limit))
            except queue.Empty:
                raise pexpect.TIMEOUT(f"nothing on the console for {limit} s") from None
            if self._pending == _END:
                self.flag_eof = True
                self._queue.put(_END)
                self._recorder.check()
                raise pexpect.EOF("the machine's console ended")
        data, self._pending = self._pending[:size], self._pending[size:]
        # pexpect's own, which its type stubs leave out.
        self._log(data, "read")  # type: ignore[attr-defined]
        return data

    def send(self, text: str | bytes) -> int:
        """Type ``text``; returns its length in bytes."""
        data = text.encode() if isinstance(text, str) else text
        type_in(self._console, data)
        return len(data)

    def sendline(self, text: str | bytes = "") -> int:
        """Type ``text`` and the Enter key, which is a carriage return on a serial line."""
        return self.send(text) + self.send(b"\r")

    def __enter__(self) -> ConsoleExpect:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._recorder.unsubscribe(self._queue.put)


def type_in(console: socket.socket, data: bytes, limit: float = 10.0) -> None:
    """Send bytes to a non-blocking console; raises TimeoutError where nobody takes them."""
    deadline = time.monotonic() + limit
    view = memoryview(data)
    while view:
        remaining = deadline - time.monotonic()
        if remaining <= 0 or not select.select([], [console], [], remaining)[1]:
            raise TimeoutError(f"the console took no input for {limit:.0f} s")
        view = view[console.send(view) :]
