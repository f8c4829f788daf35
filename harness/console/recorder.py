"""Records a machine's serial console.

Every byte goes to a raw log; every line, without terminal control sequences and with the host's
time, goes to the readable log and the journal, and is scanned for failures. One that the kernel's
clock cannot have measured is a remark (harness.journal.clock).
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TextIO

from harness.journal.clock import disbelieved
from harness.journal.journal import Journal, Source
from harness.journal.patterns import classify
from harness.profile import LINUX, Profile

# A boot loader that draws a screen ends no lines; what it drew counts as one at this size.
_LONGEST_LINE = 8 * 1024

# A cursor moved to a position begins a new line on a screen, whatever the row.
_CURSOR = re.compile(rb"\x1b\[\d*(?:;\d*)?[Hf]|\x1b\[[0-3]?J")
_CONTROL = re.compile(
    rb"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI sequences: colours, cursor, modes
    rb"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"  # OSC: titles
    rb"|\x1b[PX^_].*?\x1b\\"  # DCS, SOS, PM, APC
    rb"|\x1b[ -/]*[0-~]"  # two-byte sequences
    rb"|[\x00-\x08\x0b-\x1f\x7f]"  # control characters but tab
)


def clean(raw: bytes) -> list[str]:
    """The text lines of one raw line: control sequences removed, screens split into rows."""
    rows = _CURSOR.sub(b"\n", raw).split(b"\n")
    texts = (_CONTROL.sub(b"", row).decode("utf-8", "replace").rstrip() for row in rows)
    kept = [text for text in texts if text]
    return kept if kept or len(rows) > 1 else [""]


class Recorder:
    """Takes the console's bytes in pieces of any size, from one thread.

    ``raw`` and ``log`` are the two files that it appends to. Every byte is kept for readers that
    come later (``since``) and handed to those that are subscribed.
    """

    def __init__(self, directory: Path, journal: Journal, profile: Profile = LINUX) -> None:
        self._profile = profile
        self.raw_path = directory / "console.raw"
        self.log_path = directory / "console.log"
        self._journal = journal
        self._raw: BinaryIO = self.raw_path.open("ab", buffering=0)
        self._log: TextIO = self.log_path.open("a", buffering=1, encoding="utf-8")
        self._started = time.monotonic()
        self._line = bytearray()
        self._lock = threading.Lock()
        self._bytes = bytearray()
        self._subscribers: list[Callable[[bytes], None]] = []

    def feed(self, data: bytes) -> None:
        """Record the next bytes."""
        self._raw.write(data)
        with self._lock:
            self._bytes += data
            subscribers = list(self._subscribers)
        for subscriber in subscribers:
            subscriber(data)
        self._line += data
        *lines, rest = self._line.split(b"\n")
        for line in lines:
            self._record(bytes(line))
        self._line = rest
        if len(rest) >= _LONGEST_LINE:
            self.flush()

    def flush(self) -> None:
        """Record an unfinished line as it stands: the console ended, or it is too long."""
        if self._line:
            self._record(bytes(self._line))
            self._line = bytearray()

    def end(self) -> None:
        """The machine's console ended: subscribers get an empty piece."""
        try:
            self.flush()
        finally:
            with self._lock:
                subscribers = list(self._subscribers)
            for subscriber in subscribers:
                subscriber(b"")

    def close(self) -> None:
        """Close both logs."""
        with self._raw, self._log:
            self.flush()

    def check(self) -> None:
        """Raise ObserverError where the console is no longer read."""
        self._journal.check_readers("the console")

    @property
    def position(self) -> int:
        """Bytes recorded so far."""
        with self._lock:
            return len(self._bytes)

    def subscribe(self, subscriber: Callable[[bytes], None], since: int) -> None:
        """Call ``subscriber`` with every byte from position ``since`` on, each exactly once."""
        with self._lock:
            if past := bytes(self._bytes[since:]):
                subscriber(past)
            self._subscribers.append(subscriber)

    def unsubscribe(self, subscriber: Callable[[bytes], None]) -> None:
        """Stop calling ``subscriber``."""
        with self._lock:
            self._subscribers.remove(subscriber)

    def _record(self, raw: bytes) -> None:
        stamp = time.monotonic() - self._started
        for text in clean(raw):
            self._log.write(f"[{stamp:10.3f}] {text}\n")
            self._journal.append(Source.CONSOLE, "line", text)
            if (pattern := classify(text, self._profile)) is not None:
                why = disbelieved(pattern, self._journal.events())
                self._journal.failure(pattern, text, disbelieved=why)
