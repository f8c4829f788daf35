"""The wall clock of a node."""

from __future__ import annotations

from harness.errors import HarnessError
from harness.journal.journal import Source
from harness.target.protocols import Target

COMMAND_SECONDS = 20.0


def set_clock(target: Target, date: str) -> None:
    """Set the guest's wall clock to ``date`` (UTC, ``YYYY-MM-DD hh:mm:ss``) and read it back."""
    deadline = target.deadline(COMMAND_SECONDS)
    done = target.channel.exec(["date", "-u", "-s", date], deadline)
    read = target.channel.exec(["date", "-u", "+%Y-%m-%d %H:%M"], deadline)
    if done.exit != 0 or read.text != date[:16]:
        raise HarnessError(f"the guest's clock is {read.text!r} and not {date!r}: {done}")
    target.journal.append(Source.FAULT, "fired", f"clock set to {date}")
