"""Maintenance windows: ``HH:MM-HH:MM`` in local time.

The end is outside. A window may wrap midnight; empty text is always open; a window of zero length
(``03:00-03:00``) is never open. Only the wall clock's reading counts, so a night on which daylight
saving begins may skip part of a window and one on which it ends may repeat part of it.
"""

from __future__ import annotations

from product.agent.errors import ConfigError


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
    return _minute(begin, text), _minute(finish, text)


def _minute(clock: str, text: str) -> int:
    hours, colon, minutes = clock.strip().partition(":")
    digits = hours + minutes
    if not colon or len(hours) != 2 or len(minutes) != 2 or not digits.isdigit():
        raise _error(text)
    if not digits.isascii() or int(hours) > 23 or int(minutes) > 59:
        raise _error(text)
    return int(hours) * 60 + int(minutes)


def _error(text: str) -> ConfigError:
    return ConfigError(
        f"maintenance_window {text!r} is not a window",
        hint="write it as HH:MM-HH:MM in local time, such as 23:00-01:30",
    )
