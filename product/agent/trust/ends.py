"""What of the kept metadata ends soon: a month's warning that a publisher must renew it.

It is read without python-tuf, which costs more than the rest of ``status``; nothing is trusted
because of it.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from product.agent.system.files import read_bounded

WARN_BEFORE = timedelta(days=30)
# Snapshot and timestamp live for a month as it is, and are renewed every day.
_ROLES = ("root", "targets")
_ALL_ROLES = (*_ROLES, "snapshot", "timestamp")
_MAX = 5_000_000


def ending(metadata_dir: str, now: float) -> list[str]:
    """One line for each role whose metadata, as last fetched, ends within 30 days of ``now``.

    ``now`` is in seconds since 1970. What is missing or damaged ends nowhere: the next look at the
    server mends it.
    """
    moment = datetime.fromtimestamp(now, UTC)
    found = []
    for role in _ROLES:
        end = _end(f"{metadata_dir}/{role}.json")
        if end is None or end - moment > WARN_BEFORE:
            continue
        when = f"in {(end - moment).days} days, on" if end > moment else "since"
        state = "ends" if end > moment else "has ended"
        found.append(
            f"{role} metadata of the server {state} {when} {end:%Y-%m-%d}: its publisher must "
            "renew it, or this node takes no more updates"
        )
    return found


def role_ends(metadata_dir: str) -> dict[str, float]:
    """Role to the end of its metadata as last fetched, in seconds since 1970, of those kept."""
    ends = {role: _end(f"{metadata_dir}/{role}.json") for role in _ALL_ROLES}
    return {role: end.timestamp() for role, end in ends.items() if end is not None}


def _end(path: str) -> datetime | None:
    try:
        text = json.loads(read_bounded(path, _MAX))["signed"]["expires"]
        # strptime would bring in modules that cost more than all of this.
        return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    except (ArithmeticError, RecursionError):
        return None
