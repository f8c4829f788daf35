"""A machine's console on this terminal."""

from __future__ import annotations

import os
import select
import sys
import termios
import tty

from harness.qemu.machine import Machine

LEAVE = b"\x1d"  # Ctrl-]


def converse(machine: Machine) -> None:
    """Join the terminal and the console until either ends or the user leaves."""
    ended = os.eventfd(0, os.EFD_CLOEXEC)

    def show(data: bytes) -> None:
        if data:
            os.write(sys.stdout.fileno(), data)
        else:
            os.eventfd_write(ended, 1)

    machine.console.subscribe(show, since=0)
    keyboard = sys.stdin.fileno()
    saved = termios.tcgetattr(keyboard) if os.isatty(keyboard) else None
    try:
        if saved is not None:
            tty.setraw(keyboard)
        watched = [ended, keyboard]
        while True:
            ready, _, _ = select.select(watched, [], [])
            if ended in ready:
                return
            keys = os.read(keyboard, 1024)
            if LEAVE in keys:
                return
            if keys:
                machine.type_in(keys)
            else:
                watched.remove(keyboard)  # No more input; the machine decides when it ends.
    finally:
        machine.console.unsubscribe(show)
        if saved is not None:
            termios.tcsetattr(keyboard, termios.TCSADRAIN, saved)
        os.close(ended)
