"""Everything that happened to one machine, in order, and the waits for what shall happen.

Written out, the journal is ``timeline.json``::

    {"schema": 1, "machine": "node", "arch": "x86_64", "started": "2026-01-31T12:00:00+00:00",
     "words": {...},
     "events": [{"time": 1.234, "source": "console", "kind": "line", "text": "...", "data": {}}]}

``time`` is in seconds since ``started``, measured on the host's monotonic clock. ``words`` are
those of the system's profile (harness.profile.Profile.words). Sources and kinds:

=========  ================================================================================
console    line; failure (data: pattern, allowed, disbelieved: why it did not happen, or "")
qmp        event (text: its name, data: its data); command (text: its name, data: arguments,
           seconds)
lab        event (text: RESET, or what was done to the board)
channel    hello, request, output, reply, command (text: argv, data: exit, seconds), dropped
harness    start, restored, exit (data: status, cpu_seconds; again: the next start follows), note,
           step (data: depth, phase begin|end, seconds),
           broken (a reader failed; data: traceback),
           command (one on the host, or over SSH; data: exit, seconds)
fault      armed, fired, lifted (text: what; data: ability, and of the last two how often it fired);
           of what is done at once only fired (text: what)
=========  ================================================================================
"""

from __future__ import annotations

import contextlib
import datetime
import enum
import json
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.deadline import Deadline
from harness.errors import (
    DeadlineError,
    GuestFailureError,
    HarnessError,
    MachineExitedError,
    MissingFailureError,
    ObserverError,
    WaitError,
)
from harness.journal.patterns import Named

SCHEMA = 1
CONSOLE_TAIL = 20


class Source(enum.StrEnum):
    """Who observed an event."""

    CONSOLE = "console"
    QMP = "qmp"
    LAB = "lab"
    CHANNEL = "channel"
    HARNESS = "harness"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Event:
    """One observation; ``index`` is its place in the journal, ``time`` the monotonic clock's."""

    index: int
    time: float
    source: Source
    kind: str
    text: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.source} {self.kind}" + (f": {self.text}" if self.text else "")


Predicate = Callable[[Event], bool]


def is_line(event: Event) -> bool:
    """A line of the console."""
    return event.source is Source.CONSOLE and event.kind == "line"


def is_reset(event: Event) -> bool:
    """The machine was reset, by its guest, its watchdog or its button."""
    return event.source in (Source.QMP, Source.LAB) and event.text == "RESET"


def is_failure(event: Event) -> bool:
    """A failure on the console, expected or not, that is believed to have happened."""
    seen = event.source is Source.CONSOLE and event.kind == "failure"
    return seen and not event.data.get("disbelieved")


class Journal:
    """An ordered, thread-safe list of events with waits that lose none.

    A wait starts at a cursor, so that what happened between two calls counts. It ends at the first
    matching event, or with an error at the first of: a failure on the guest's console that nobody
    expected, the machine's end, a reader of the harness that failed, the deadline. A failure seen
    while nobody waited ends the next wait, or the scenario (``check``).
    """

    def __init__(
        self, machine: str = "node", arch: str = "", words: Mapping[str, Any] | None = None
    ) -> None:
        self.machine = machine
        self._words = words or {}
        self.arch = arch
        self.reproduce = ""  # one command that runs the scenario again
        self._started = time.monotonic()
        self._date = datetime.datetime.now(datetime.UTC)
        self._condition = threading.Condition()
        self._events: list[Event] = []
        self._allowed: list[frozenset[Named]] = []
        self._failures: list[Event] = []  # not yet reported to anybody
        self._exit: Event | None = None
        self._broken: Event | None = None
        self._steps: list[str] = []

    # Writing

    def append(self, source: Source, kind: str, text: str = "", /, **data: Any) -> Event:
        """Record an event now and wake every wait."""
        with self._condition:
            event = Event(len(self._events), time.monotonic(), source, kind, text, data)
            self._events.append(event)
            if source is Source.HARNESS and kind == "exit" and not data.get("again"):
                self._exit = event
            elif source is Source.HARNESS and kind == "start":
                self._exit = None
            self._condition.notify_all()
            return event

    def failure(self, pattern: Named, line: str, *, disbelieved: str = "") -> Event:
        """Record a failure on the console; an unexpected one ends the present or next wait.

        With ``disbelieved``, why it did not happen, it is a remark and ends nothing.
        """
        with self._condition:
            allowed = any(pattern in patterns for patterns in self._allowed)
            event = self.append(
                Source.CONSOLE, "failure", line, pattern=pattern.name, allowed=allowed,
                disbelieved=disbelieved,
            )  # fmt: skip
            if not allowed and is_failure(event):
                self._failures.append(event)
            return event

    def broken(self, reader: str, error: Exception) -> None:
        """Record that ``reader`` failed; every wait for what comes later ends with the error."""
        text = f"{reader} failed: {type(error).__name__}: {error}"
        trace = "".join(traceback.format_exception(error))
        with self._condition:
            event = self.append(Source.HARNESS, "broken", text, traceback=trace)
            self._broken = self._broken or event

    @contextlib.contextmanager
    def expecting(self, *patterns: Named, times: int = 1) -> Iterator[None]:
        """Within this scope each of the given failures comes, at least so many times.

        Raises MissingFailureError at the scope's end, so that it has to last until they have come.
        """
        since = self.cursor
        with self.tolerating(*patterns):
            yield
        self._require(patterns, times, since)

    @contextlib.contextmanager
    def tolerating(self, *patterns: Named) -> Iterator[None]:
        """Within this scope the given failures may come or not."""
        entry = frozenset(patterns)
        with self._condition:
            self._allowed.append(entry)
        try:
            yield
        finally:
            with self._condition:
                self._allowed.remove(entry)

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Name what is being done, for the timeline and for the message of a failure."""
        depth = len(self._steps)
        self._steps.append(title)
        begun = self.append(Source.HARNESS, "step", title, depth=depth, phase="begin")
        try:
            yield
        except HarnessError as error:
            self._place(error)
            raise
        finally:
            self._steps.pop()
            seconds = time.monotonic() - begun.time
            self.append(
                Source.HARNESS, "step", title, depth=depth, phase="end", seconds=round(seconds, 3)
            )

    # Reading

    @property
    def cursor(self) -> int:
        """The place after the last event so far."""
        with self._condition:
            return len(self._events)

    def events(self, since: int = 0) -> list[Event]:
        """A copy of the events from ``since`` on."""
        with self._condition:
            return self._events[since:]

    def last(self, predicate: Predicate) -> Event | None:
        """The latest event that matches."""
        with self._condition:
            return next((event for event in reversed(self._events) if predicate(event)), None)

    def console_tail(self, count: int = CONSOLE_TAIL) -> list[str]:
        """The last ``count`` console lines."""
        lines: list[str] = []
        with self._condition:
            for event in reversed(self._events):
                if event.source is Source.CONSOLE and event.kind == "line":
                    lines.append(event.text)
                    if len(lines) == count:
                        break
        return lines[::-1]

    # Waiting

    def wait(
        self,
        predicate: Predicate,
        what: str,
        deadline: Deadline,
        *,
        since: int | None = None,
        survive_exit: bool = False,
    ) -> Event:
        """The first event from ``since`` (default: now) on that matches.

        ``survive_exit`` keeps waiting when the machine ends. Raises DeadlineError,
        MachineExitedError, GuestFailureError or ObserverError.
        """
        begun = time.monotonic()
        with self._condition:
            position = len(self._events) if since is None else since
            while True:
                found = self._scan(position, predicate)
                self._raise_failure(what, begun, found)
                self._raise_broken(what, begun, found)
                if found is not None:
                    return found
                position = max(position, len(self._events))
                if self._exit is not None and not survive_exit:
                    raise self._error(MachineExitedError, what, begun, self._exit)
                if deadline.passed:
                    late = f"nothing within {deadline.seconds:.0f} s"
                    raise self._error(DeadlineError, what, begun, None, late)
                self._condition.wait(deadline.remaining)

    def check(self, what: str) -> None:
        """Raise GuestFailureError where an unexpected failure was seen and not yet reported, and
        ObserverError where one may have gone unseen. ``what`` is what it came before.
        """
        with self._condition:
            self._raise_failure(what, time.monotonic(), None)
            self._raise_broken(what, time.monotonic(), None)

    def check_readers(self, what: str) -> None:
        """Raise ObserverError where a reader has failed."""
        with self._condition:
            self._raise_broken(what, time.monotonic(), None)

    def _require(self, patterns: Sequence[Named], times: int, since: int) -> None:
        """Raise MissingFailureError unless each pattern came ``times`` times after ``since``."""
        with self._condition:
            failures = [event for event in self._events[since:] if is_failure(event)]
        came = Counter(str(event.data["pattern"]) for event in failures)
        if all(came[pattern.name] >= times for pattern in patterns):
            return
        wanted = ", ".join(pattern.name for pattern in patterns)
        message = f"expected {wanted}{f', {times} times each' if times > 1 else ''}{self._where}: "
        counts = (f"{name} {number} times" for name, number in came.items())
        message += ", ".join(counts) or "no failure came"
        lines = [f"  {event.data['pattern']}: {event.text}" for event in failures]
        raise self._described(MissingFailureError, [message, *lines])

    def _scan(self, position: int, predicate: Predicate) -> Event | None:
        for index in range(position, len(self._events)):
            if predicate(self._events[index]):
                return self._events[index]
        return None

    def _raise_failure(self, what: str, begun: float, found: Event | None) -> None:
        """What was found counts only if no failure came before it."""
        if self._failures and (found is None or self._failures[0].index < found.index):
            failure = self._failures[0]
            self._failures.clear()  # Evidence can still be collected afterwards.
            raise self._error(GuestFailureError, what, begun, failure)

    def _raise_broken(self, what: str, begun: float, found: Event | None) -> None:
        if self._broken is not None and (found is None or self._broken.index < found.index):
            raise self._error(ObserverError, what, begun, self._broken)

    def _error(
        self, kind: type[WaitError], what: str, begun: float, event: Event | None, why: str = ""
    ) -> WaitError:
        waited = time.monotonic() - begun
        found = why or str(event)
        if event is not None and event.kind == "failure":
            found = f"{event.data['pattern']}: {event.text}"
        error = self._described(kind, [f"waited {waited:.1f} s for {what}{self._where}: {found}"])
        error.decided = f"{found} ({waited:.1f} s into the wait for {what})"
        return error

    def _place(self, error: HarnessError) -> None:
        """Let an error say where it came, unless it does already."""
        if not error.machine:
            error.machine, error.step = self.machine, " > ".join(self._steps)
            error.console = tuple(self.console_tail())

    @property
    def _where(self) -> str:
        return f" in step {' > '.join(self._steps)!r}" if self._steps else ""

    def _described(self, kind: type[WaitError], lines: list[str]) -> WaitError:
        """An error with the console's last lines and the command that runs it again."""
        if tail := self.console_tail():
            lines.append(f"last {len(tail)} console lines:")
            lines.extend(f"  {line}" for line in tail)
        hint = f"run again: {self.reproduce}" if self.reproduce else None
        if hint:
            lines.append(hint)
        error = kind("\n".join(lines), hint=hint)
        self._place(error)
        return error

    # Evidence

    def guest_seconds(self) -> float:
        """Seconds during which QEMU ran."""
        total = 0.0
        since: float | None = None
        for event in self.events():
            if event.source is Source.HARNESS and event.kind == "start":
                since = event.time
            elif event.source is Source.HARNESS and event.kind == "exit" and since is not None:
                total += event.time - since
                since = None
        return total if since is None else total + time.monotonic() - since

    def cpu_seconds(self) -> float:
        """The processors' time that QEMU has taken in all its runs that have ended."""
        exits = [e for e in self.events() if e.source is Source.HARNESS and e.kind == "exit"]
        return sum(float(event.data.get("cpu_seconds", 0.0)) for event in exits)

    def document(self) -> dict[str, Any]:
        """The journal as timeline.json holds it."""
        return {
            "schema": SCHEMA,
            "machine": self.machine,
            "arch": self.arch,
            "started": self._date.isoformat(timespec="milliseconds"),
            "words": dict(self._words),
            "events": [
                {
                    "time": round(event.time - self._started, 6),
                    "source": event.source.value,
                    "kind": event.kind,
                    "text": event.text,
                    "data": dict(event.data),
                }
                for event in self.events()
            ],
        }

    def save(self, path: Path) -> None:
        """Write timeline.json."""
        path.write_text(json.dumps(self.document(), indent=1, default=str) + "\n")
