"""Whether local time is that of the zone that somebody set.

Stage 46 links the zone that ``/etc/kubesolo/timezone`` names; without the link local time is UTC,
and a maintenance window would open at the wrong hours.
"""

from __future__ import annotations

import os

from product.agent.config import Config
from product.agent.system.files import read_bounded
from product.agent.system.paths import Paths

MAX_BYTES = 4096
_SHOWN = 64


def read_zone(paths: Paths) -> str:
    """The configured zone, empty where there is none. Raises OSError, ValueError.

    As stage 46 reads it: the first line that says something, without a byte order mark.
    """
    try:
        text = read_bounded(paths.timezone, MAX_BYTES).decode("utf-8-sig", "replace")
    except FileNotFoundError:
        return ""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def zone_problem(paths: Paths) -> str | None:
    """Why local time is not that of the configured zone; None where it is, or none is set."""
    try:
        zone = read_zone(paths)
    except (OSError, ValueError) as error:
        return f"{paths.timezone} cannot be read ({error}), so local time may be of another zone"
    if not zone:
        return None
    try:
        target = os.readlink(paths.localtime)
    except OSError:
        target = ""
    if target.endswith(f"/zoneinfo/{zone}"):
        return None
    return (
        f"local time is not that of {zone[:_SHOWN]!r} in {paths.timezone}: the image has no such "
        "zone, or it was set after the boot"
    )


def window_unknown(paths: Paths, config: Config) -> str | None:
    """Why nobody knows when the maintenance window is open, which then counts as closed."""
    if config.window_unknown or not config.maintenance_window.strip():
        return config.window_unknown
    return zone_problem(paths)
