"""What became of the sticks with releases: ``/var/lib/kubesolo/update/sticks.json``.

Format: one JSON object with ``sticks``, the latest last, each with ``timestamp`` (the SHA-256 of
the repository's timestamp.json), ``outcome`` (trying, waiting, done, failed), ``tries`` (a number),
``reason`` and ``time`` (ISO 8601, UTC). A file that cannot be read is one of no sticks: then a
stick that is left in is looked at once more.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import NamedTuple

from product.agent.system.files import read_bounded, write_atomic

MAX_BYTES = 64 * 1024
KEPT = 8
# ``trying`` was cut off; ``waiting`` is for the window or the like; ``done`` is installed, refused
# or up to date: another look at the same files would come to the same.
TRYING, WAITING, DONE, FAILED = "trying", "waiting", "done", "failed"
_OUTCOMES = (TRYING, WAITING, DONE, FAILED)


class Stick(NamedTuple):
    """One repository that was plugged in, and how often it was tried without coming to an end."""

    timestamp: str
    outcome: str
    tries: int
    reason: str
    time: str


def read_sticks(path: str) -> dict[str, Stick]:
    """By the digest of their timestamp."""
    try:
        rows = json.loads(read_bounded(path, MAX_BYTES))["sticks"]
        found = [Stick(*(row[field] for field in Stick._fields)) for row in rows]
    except (OSError, ValueError, RecursionError, LookupError, TypeError):
        return {}
    return {stick.timestamp: stick for stick in found if _is_stick(stick)}


def _is_stick(stick: Stick) -> bool:
    texts = (stick.timestamp, stick.outcome, stick.reason, stick.time)
    return (
        all(isinstance(text, str) for text in texts)
        and isinstance(stick.tries, int)
        and stick.outcome in _OUTCOMES
    )


def note_stick(path: str, stick: Stick) -> None:
    """Put ``stick`` last, if the disk lets us; the oldest are forgotten."""
    sticks = {**read_sticks(path)}
    sticks.pop(stick.timestamp, None)
    rows = [each._asdict() for each in [*sticks.values(), stick][-KEPT:]]
    with suppress(OSError):
        write_atomic(path, (json.dumps({"sticks": rows}, indent=2) + "\n").encode())
