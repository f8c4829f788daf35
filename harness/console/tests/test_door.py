"""Others join a console at its door, late or early, and hear it to the end."""

from __future__ import annotations

import queue
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.console.door import CONSOLE, connect, console_door
from harness.console.recorder import Recorder
from harness.errors import UnsupportedError
from harness.journal.journal import Journal


class Line:
    """A console without a machine: what is typed, and whether anybody takes it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.recorder = Recorder(folder, Journal())
        self.typed: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.on = True
        self.door = console_door(folder, self.recorder, self.type_in)

    def type_in(self, data: bytes) -> None:
        self.typed.put(data)
        if not self.on:
            raise UnsupportedError("it is off")

    def join(self) -> socket.socket:
        stream = connect(self.folder, CONSOLE)
        stream.settimeout(10)
        return stream


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    # Longer than an address of a socket may be.
    folder = tmp_path / ("long" * 50)
    folder.mkdir()
    made = Line(folder)
    yield made
    made.door.close()
    made.recorder.close()


def heard(stream: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += stream.recv(count - len(data))
    return data


def test_who_comes_late_hears_the_last_of_it_and_what_follows(line: Line) -> None:
    line.recorder.feed(b"x" * 5000)
    with line.join() as first, line.join() as second:
        assert heard(first, 4096) == heard(second, 4096) == b"x" * 4096
        line.recorder.feed(b"more")
        assert heard(first, 4) == heard(second, 4) == b"more"
        second.sendall(b"keys")
        assert line.typed.get(timeout=10) == b"keys"


def test_who_leaves_is_forgotten_and_others_stay(line: Line) -> None:
    with line.join() as stays:
        line.join().close()
        for _ in range(20):
            line.recorder.feed(b"still here")
            assert heard(stays, 10) == b"still here"


def test_keys_for_a_machine_that_is_off_are_nobodys(line: Line) -> None:
    line.on = False
    with line.join() as stream:
        stream.sendall(b"keys")
        assert line.typed.get(timeout=10) == b"keys"
        line.recorder.feed(b"on again")
        assert heard(stream, 8) == b"on again"


def test_the_last_words_are_heard_before_the_door_is_shut(line: Line) -> None:
    with line.join() as stream:
        line.recorder.feed(b"first")
        assert heard(stream, 5) == b"first"
        line.recorder.feed(b"last words")
        line.door.close()
        assert heard(stream, 10) == b"last words"
        assert stream.recv(1) == b""
    with pytest.raises(OSError, match="refused"):
        line.join()
