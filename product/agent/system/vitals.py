"""Uptime and memory, as the kernel says. The metrics server asks at each scrape, so this module
imports nothing."""

from __future__ import annotations

_KIB = 1024
_WANTED = {"MemTotal": "memory_total", "MemAvailable": "memory_available"}
_MAX = 16 * 1024


def read_vitals(proc: str) -> dict[str, float | int]:
    """``uptime`` in seconds, ``memory_total`` and ``memory_available`` in bytes, of what can be
    read below ``proc``."""
    found: dict[str, float | int] = {}
    try:
        with open(f"{proc}/uptime") as file:
            found["uptime"] = float(file.read(_MAX).split()[0])
    except (OSError, ValueError, IndexError):
        pass
    try:
        with open(f"{proc}/meminfo") as file:
            lines = file.read(_MAX).splitlines()
    except (OSError, ValueError):
        return found
    for line in lines:
        name, _, rest = line.partition(":")
        number = rest.split()[:1]
        if name in _WANTED and number and number[0].isdigit():
            found[_WANTED[name]] = int(number[0]) * _KIB
    return found
