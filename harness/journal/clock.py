"""Failures that a kernel measures by its own clock, and whether that clock could be believed.

An emulated processor's time stamp counter has no frequency of its own. The kernel measures it
against another timer, and on a busy host may get a value several times too small: until the
kernel's watchdog of clocks finds out, its seconds are that much too short, and a few of them count
as a stall (docs/decisions/0052-clock.md).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from harness.journal.boots import begins
from harness.journal.journal import Event, is_line
from harness.journal.patterns import Named, Pattern

# A kernel reports these after so many seconds of its clock.
MEASURED = frozenset(
    {Pattern.SOFT_LOCKUP, Pattern.HARD_LOCKUP, Pattern.RCU_STALL, Pattern.HUNG_TASK}
)
# Seconds that a believed clock may gain: of the least limit, 21 s, most have still passed.
MARGIN = 8.0
# Seconds for which a leap may be behind a report: twice the longest limit, a hung task's 120 s.
MEMORY = 240.0

# Seconds by which one kernel's stamps may go back, as its processors differ.
_BACK = 1.0
_STAMP = re.compile(r"\[ *(\d+\.\d{6})\]")


def disbelieved(pattern: Named, events: Iterable[Event]) -> str:
    """Why the failure that the last of ``events`` reports did not happen, or ""."""
    if pattern not in MEASURED:
        return ""
    seconds = gained(events)
    if seconds < MARGIN:
        return ""
    return f"the guest's clock had gained {seconds:.0f} s on the host's"


def gained(events: Iterable[Event]) -> float:
    """Seconds that the clock of the present boot's kernel gained on the host's, within MEMORY of
    the last of ``events``, as the stamps of its console lines tell.

    A line comes no sooner than it was stamped, so that each line gives a moment at which the
    kernel's clock stood at 0, or one before that. A moment that lies before the machine's start,
    or before those of all lines older than MEMORY, is impossible: the clock ran ahead.
    """
    start: float | None = None  # the machine's, where the kernel began with it
    stamps: list[tuple[float, float]] = []  # each with the host's time
    last = 0.0
    for event in events:
        last = event.time
        if begins(event):
            # A restored kernel's clock goes on from an unknown value.
            start = None if event.kind == "restored" else event.time
            stamps.clear()
        elif is_line(event) and (found := _STAMP.match(event.text)):
            stamp = float(found[1])
            if stamps and stamp < stamps[-1][1] - _BACK:
                stamps.clear()  # Another kernel: the lines so far came late, from before the reset.
            stamps.append((event.time, stamp))
    if not stamps:
        return 0.0
    zeros = [time - stamp for time, stamp in stamps]
    known = [time - stamp for time, stamp in stamps if last - time > MEMORY]
    if start is not None:
        known.append(start)
    return max(0.0, min(known, default=zeros[0]) - min(zeros))
