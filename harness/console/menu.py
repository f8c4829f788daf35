"""Boot menus, as a person at the console opens them."""

from __future__ import annotations

import re
import time

import pexpect

from harness.console.expect import ConsoleExpect
from harness.console.recorder import clean
from harness.errors import DeadlineError
from harness.profile import Menu

_SHOWN = 20
_DOWN = "\x1b[B"


def open_menu(
    terminal: ConsoleExpect, key: str, menu: str, *, instead: str, seconds: float
) -> None:
    """Press ``key`` until the console shows the text ``menu``.

    Firmware forgets keys that came too early, so it is pressed again and again. Raises
    DeadlineError with what the console showed where ``instead``, what follows without a menu, comes
    first, the console ends, or neither comes in ``seconds``.
    """
    begun = time.monotonic()
    while (passed := time.monotonic() - begun) < seconds:
        terminal.send(key)
        # The slower the machine starts, the longer is the moment for the key.
        found = terminal.expect(
            [re.escape(menu), re.escape(instead), pexpect.EOF, pexpect.TIMEOUT],
            timeout=max(0.05, passed / 40),
        )
        if found == 0:
            return
        if found == 1:
            raise _missing(terminal, begun, f"{instead!r} came instead")
        if found == 2:
            raise _missing(terminal, begun, "the console ended")
    raise _missing(terminal, begun, f"it did not come within {seconds:.0f} s")


def choose(terminal: ConsoleExpect, menu: Menu, entry: str, key: str, *, seconds: float) -> None:
    """Open the menu with ``key`` and choose an entry of it. Raises as ``open_menu``, and
    ValueError for an entry that is none."""
    place = menu.entries.index(entry)
    open_menu(terminal, key, menu.entries[-1], instead=menu.instead, seconds=seconds)
    for _ in range(place):
        terminal.send(_DOWN)
    terminal.send("\r")


def _missing(terminal: ConsoleExpect, begun: float, why: str) -> DeadlineError:
    shown = terminal.before or b""
    if isinstance(terminal.after, bytes):
        shown += terminal.after
    lines = [text for raw in shown.split(b"\n") for text in clean(raw) if text][-_SHOWN:]
    message = f"waited {time.monotonic() - begun:.1f} s for the boot menu: {why}; it showed:"
    return DeadlineError("\n".join([message, *(f"  {line}" for line in lines or ["nothing"])]))
