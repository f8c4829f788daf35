"""The wall clock of a node."""

from __future__ import annotations

import time

from harness.abilities import Ability
from harness.errors import HarnessError
from harness.faults.fault import Fault
from harness.target.protocols import Target

COMMAND_SECONDS = 20.0
# How far the guest's clock may be from where it was set to: it has whole seconds, and runs on.
_APART = 5.0


class ClockJump(Fault):
    """The guest's wall clock jumps by so many seconds, forward or back, until the end.

    It has fired once the guest reads it so. At the end it shows again what it would without.
    """

    ability = Ability.CLOCK

    def __init__(self, target: Target, seconds: float) -> None:
        way = "forward" if seconds > 0 else "back"
        super().__init__(target.journal, f"the clock jumps {way} by {abs(seconds):.0f} s")
        self._target = target
        self._seconds = seconds
        self._right = self._since = 0.0
        self._shown = ""

    def arm(self) -> None:
        """Set it. Raises HarnessError where the guest does not read it so."""
        self._shown = ""
        self._right, self._since = self._read(), time.monotonic()
        self._set(self._right + self._seconds)
        wanted = self._now() + self._seconds
        if abs(self._read() - wanted) > _APART * max(1.0, self._target.deadline(1).seconds):
            raise HarnessError(f"the guest's clock did not jump: it shows {self._shown}, {self}")

    def lift(self) -> None:
        """Set it to what it would show; a guest that takes no commands keeps it."""
        if self._shown and self._target.running and self._target.channel.up:
            self._set(self._now())

    def look(self) -> tuple[int, str]:
        """What the guest read once it was set."""
        return (1 if self._shown else 0), f"the guest's clock showed {self._shown or 'no change'}"

    def _now(self) -> float:
        """What the clock would show without the fault."""
        return self._right + time.monotonic() - self._since

    def _read(self) -> float:
        text = self._run("date", "-u", "+%s %Y-%m-%dT%H:%M:%SZ").strip()
        seconds, _, shown = text.partition(" ")
        if self._right:
            self._shown = self._shown or shown
        return float(seconds)

    def _set(self, seconds: float) -> None:
        self._run("date", "-u", "-s", f"@{seconds:.0f}")

    def _run(self, *argv: str) -> str:
        done = self._target.channel.exec(list(argv), self._target.deadline(COMMAND_SECONDS))
        if done.exit != 0:
            raise HarnessError(f"the guest's clock cannot be read or set: {done}")
        return done.text
