"""Maintenance windows: ``HH:MM-HH:MM`` in the node's time zone.

The end is outside, and 24:00 is the end of the day. A window may wrap midnight; empty text is
always open; a window of zero length (``03:00-03:00``) is never open. Only the wall clock's reading
counts: minutes that the clock skips when daylight saving begins are missing from a window, and
those that it shows twice when it ends are in it twice.
"""

from __future__ import annotations

from collections.abc import Callable

from product.agent.errors import ConfigError

DAY = 24 * 60
# A window that lies in an hour that one day has not opens on the next.
_LOOK_AHEAD = 3 * DAY


def window_is_open(text: str, minute: int) -> bool:
    """Whether ``minute`` (since local midnight) lies in the window. Raises ConfigError."""
    if not text.strip():
        return True
    start, end = parse_window(text)
    if start <= end:
        return start <= minute < end
    return minute >= start or minute < end


def parse_window(text: str) -> tuple[int, int]:
    """The window's start and end in minutes since midnight. Raises ConfigError."""
    begin, dash, finish = text.strip().partition("-")
    if not dash:
        raise _error(text)
    start, end = _minute(begin, text), _minute(finish, text)
    if start == DAY:
        raise _error(text)
    return start, end


def next_opening(text: str, now: float, minute_at: Callable[[float], int]) -> float | None:
    """When the window opens next, or ``now`` where it is open, in seconds since 1970.

    ``minute_at`` gives the minute since local midnight of a moment. None where it does not open
    within three days. Raises ConfigError.
    """
    if window_is_open(text, minute_at(now)):
        return now
    moment = now - now % 60
    for _ in range(_LOOK_AHEAD):
        moment += 60
        if window_is_open(text, minute_at(moment)):
            return moment
    return None


def _minute(clock: str, text: str) -> int:
    hours, colon, minutes = clock.strip().partition(":")
    digits = hours + minutes
    if not colon or len(hours) not in (1, 2) or len(minutes) != 2:
        raise _error(text)
    if not digits.isascii() or not digits.isdigit() or int(minutes) > 59:
        raise _error(text)
    found = int(hours) * 60 + int(minutes)
    if found > DAY:
        raise _error(text)
    return found


def _error(text: str) -> ConfigError:
    return ConfigError(
        f"maintenance_window {text!r} is not a window",
        hint="write it as HH:MM-HH:MM in the node's time zone, such as 23:00-01:30",
    )
