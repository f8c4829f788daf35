"""A boot menu that does not appear is an error that shows what did."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.console.expect import ConsoleExpect
from harness.console.menu import open_menu
from harness.console.recorder import Recorder
from harness.errors import DeadlineError
from harness.journal.journal import Journal

LONG = 20.0


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    made = Recorder(tmp_path, Journal())
    yield made
    made.close()


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The harness's end of the console, and the machine's."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def terminal(
    recorder: Recorder, ends: tuple[socket.socket, socket.socket]
) -> Iterator[ConsoleExpect]:
    with ConsoleExpect(recorder, ends[0], since=0, timeout=LONG) as made:
        yield made


def test_the_key_is_pressed_until_the_menu_shows(
    terminal: ConsoleExpect, recorder: Recorder, ends: tuple[socket.socket, socket.socket]
) -> None:
    def firmware() -> None:
        ends[1].recv(1)
        ends[1].recv(1)
        recorder.feed(b"\x1b[1;1Hfirst entry\x1b[2;1Hlast entry")

    machine = threading.Thread(target=firmware)
    machine.start()
    open_menu(terminal, "k", "last entry", instead="boot slot=", seconds=LONG)
    machine.join()


def test_a_system_that_boots_without_a_menu_is_an_error(
    terminal: ConsoleExpect, recorder: Recorder
) -> None:
    recorder.feed(b"the firmware\r\n\x1b[2Jkubesolo: boot slot=A counter=2\r\nlast entry")
    with pytest.raises(DeadlineError, match="'boot slot=' came instead") as caught:
        open_menu(terminal, "k", "last entry", instead="boot slot=", seconds=LONG)
    assert "  the firmware\n  kubesolo: boot slot=" in str(caught.value)


def test_a_menu_that_does_not_come_in_time_is_an_error(
    terminal: ConsoleExpect, recorder: Recorder
) -> None:
    recorder.feed(b"the firmware\r\n")
    with pytest.raises(DeadlineError, match="did not come within 0 s") as caught:
        open_menu(terminal, "k", "last entry", instead="boot slot=", seconds=0.2)
    assert str(caught.value).endswith("it showed:\n  the firmware")


def test_a_machine_that_ends_shows_no_menu(terminal: ConsoleExpect, recorder: Recorder) -> None:
    recorder.end()
    with pytest.raises(DeadlineError, match="the console ended") as caught:
        open_menu(terminal, "k", "last entry", instead="boot slot=", seconds=LONG)
    assert str(caught.value).endswith("it showed:\n  nothing")
