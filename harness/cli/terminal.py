"""A machine's console on this terminal."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from types import FrameType

from harness.console.recorder import Recorder

LEAVE = b"\x1d"  # Ctrl-]


def converse(console: Recorder, type_in: Callable[[bytes], None], *, since: int = 0) -> None:
    """Join the terminal and a console, from byte ``since`` on, until either ends or the user
    leaves."""
    ended = os.eventfd(0, os.EFD_CLOEXEC)

    def show(data: bytes) -> None:
        if data:
            _write(data)
        else:
            os.eventfd_write(ended, 1)

    console.subscribe(show, since)
    try:
        _type(type_in, ended, lambda: False)
    finally:
        console.unsubscribe(show)
        os.close(ended)


def attach(stream: socket.socket) -> bool:
    """Join the terminal and a console that ``stream`` leads to. Whether the user left, and not the
    machine."""

    def show() -> bool:
        try:
            data = stream.recv(64 * 1024)
        except OSError:
            data = b""
        _write(data)
        return bool(data)

    return _type(stream.sendall, stream.fileno(), show)


def _type(type_in: Callable[[bytes], None], other: int, told: Callable[[], bool]) -> bool:
    """Type until the user leaves (true), or ``other`` is ready and ``told`` says no."""
    keyboard = sys.stdin.fileno()
    with _raw(keyboard):
        watched = [other, keyboard]
        while True:
            ready, _, _ = select.select(watched, [], [])
            if other in ready and not told():
                return False
            if keyboard not in ready:
                continue
            keys = os.read(keyboard, 1024)
            before, left, _ = keys.partition(LEAVE)
            if before:
                try:
                    type_in(before)
                except OSError:
                    return False
            if left:
                return True
            if not keys:
                watched.remove(keyboard)  # No more input; the machine decides when it ends.


@contextlib.contextmanager
def _raw(keyboard: int) -> Iterator[None]:
    """Hand each key over as it is; whatever ends this, the terminal is as before afterwards."""
    if not os.isatty(keyboard):
        yield
        return
    saved = termios.tcgetattr(keyboard)
    handlers = {}

    def end(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    try:
        for number in (signal.SIGTERM, signal.SIGHUP):
            handlers[number] = signal.signal(number, end)
        # What was typed before stays.
        tty.setraw(keyboard, termios.TCSADRAIN)
        yield
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, saved)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _write(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(sys.stdout.fileno(), view) :]
