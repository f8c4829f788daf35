"""A reader that fails is told to whoever waits, and does not stop the others."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.console.expect import ConsoleExpect
from harness.console.pump import Pump
from harness.console.recorder import Recorder
from harness.deadline import Deadline
from harness.errors import ObserverError
from harness.journal.journal import Event, Journal, Source

LIMIT = 30.0


class Streams:
    """A pump with two streams; what the second one brings is kept."""

    def __init__(self) -> None:
        self.journal = Journal()
        self.pump = Pump("node", self.journal)
        self.failing, self._failing = socket.socketpair()
        self.working, self._working = socket.socketpair()
        self.ended = threading.Event()
        self.arrived = threading.Event()
        self.pump.add(self._failing, self.fail, self.ended.set)
        self.pump.add(self._working, lambda data: self.arrived.set(), lambda: None)

    def fail(self, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    def close(self) -> None:
        self.pump.close()
        for end in (self.failing, self._failing, self.working, self._working):
            end.close()


@pytest.fixture
def streams() -> Iterator[Streams]:
    made = Streams()
    yield made
    made.close()


def never(event: Event) -> bool:
    return False


def test_a_handler_that_fails_ends_each_wait_at_once(streams: Streams) -> None:
    threading.Timer(0.1, streams.failing.send, [b"x"]).start()
    begun = time.monotonic()
    for what in ("the agent", "anything later"):
        with pytest.raises(ObserverError, match=f"{what}.*OSError.*No space left"):
            streams.journal.wait(never, what, Deadline.after(LIMIT))
    with pytest.raises(ObserverError, match="No space left"):
        streams.journal.check("the end")
    assert time.monotonic() - begun < LIMIT / 3
    [event] = [event for event in streams.journal.events() if event.kind == "broken"]
    assert "in fail" in event.data["traceback"]


def test_what_was_seen_before_counts(streams: Streams) -> None:
    streams.journal.append(Source.HARNESS, "note", "before")
    streams.journal.broken("the pump", ValueError("bad"))
    found = streams.journal.wait(
        lambda event: event.text == "before", "it", Deadline.after(LIMIT), since=0
    )
    assert found.text == "before"


def test_the_other_streams_go_on(streams: Streams) -> None:
    streams.failing.send(b"x")
    assert streams.ended.wait(LIMIT), "a failed stream has ended for those who drain it"
    streams.working.send(b"x")
    assert streams.arrived.wait(LIMIT)


def test_an_end_that_fails_is_told_too(streams: Streams) -> None:
    def fail() -> None:
        raise ValueError("no end")

    ours, theirs = socket.socketpair()
    streams.pump.add(theirs, lambda data: None, fail)
    ours.close()
    with pytest.raises(ObserverError, match=r"ValueError.*no end"):
        streams.journal.wait(never, "anything", Deadline.after(LIMIT))
    theirs.close()


def test_a_person_at_the_console_is_told_too(tmp_path: Path) -> None:
    journal = Journal()
    recorder = Recorder(tmp_path, journal)
    pump = Pump("node", journal)
    ours, theirs = socket.socketpair()
    pump.add(theirs, recorder.feed, recorder.end)
    recorder._raw.close()  # Each write fails from now on.
    with ConsoleExpect(recorder, ours, since=0, timeout=LIMIT) as console:
        begun = time.monotonic()
        ours.send(b"GNU GRUB")
        with pytest.raises(ObserverError, match="ValueError"):
            console.expect("GRUB")
        assert time.monotonic() - begun < LIMIT / 3
    pump.close()
    for end in (ours, theirs):
        end.close()
