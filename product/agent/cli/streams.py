"""Standard output and standard error that may be full, or that nobody reads any more.

What a command does must not hang on who reads its output: an update is armed and the node reboots
although the pipe is closed. So the first failure is kept for the end, and nothing is written after
it. A command that does nothing but write, for as long as somebody reads, gets the failure raised.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO


class GuardedStream:
    """A text stream whose first failure is kept in ``failure``."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.raises = False
        self.failure: OSError | None = None

    def write(self, text: str) -> int:
        """As TextIO.write; what cannot be written any more is dropped."""
        if self.failure is None:
            try:
                return self._stream.write(text)
            except OSError as error:
                self._fail(error)
        return len(text)

    def flush(self) -> None:
        """As TextIO.flush."""
        if self.failure is None:
            try:
                self._stream.flush()
            except OSError as error:
                self._fail(error)

    def _fail(self, error: OSError) -> None:
        self.failure = error
        # The interpreter flushes once more when it ends.
        with suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            os.dup2(null, self._stream.fileno())
            os.close(null)
        if self.raises:
            raise error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def guarded() -> Iterator[GuardedStream]:
    """sys.stdout, guarded as sys.stderr is while the context lasts.

    A closed one (``>&-``) is written nowhere: print() would turn to sys.stdout for sys.stderr.
    """
    before = sys.stdout, sys.stderr
    with open(os.devnull, "w", encoding="utf-8") as null:
        out, err = GuardedStream(before[0] or null), GuardedStream(before[1] or null)
        sys.stdout, sys.stderr = out, err
        try:
            yield out
        finally:
            sys.stdout, sys.stderr = before
