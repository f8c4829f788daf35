"""When metadata ends: what is renewed in time, what is warned of, and which key is missing."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

# Metadata of these roles is renewed by ``refresh`` from so long before its end on; that of the
# others at every refresh.
RENEW_BEFORE = {"root": timedelta(days=60), "targets": timedelta(days=60)}
# From here on somebody must act. Snapshot and timestamp live for a month as it is.
WARN_BEFORE = {
    "root": timedelta(days=30),
    "targets": timedelta(days=30),
    "snapshot": timedelta(days=7),
    "timestamp": timedelta(days=7),
}


class Lacking(NamedTuple):
    """A role whose metadata nears its end and whose keys are not at hand.

    ``keyids`` name the keys of which ``threshold`` must sign; ``urgent``: within 30 days.
    """

    role: str
    expires: datetime
    keyids: tuple[str, ...]
    threshold: int
    urgent: bool

    def __str__(self) -> str:
        keys = ", ".join(keyid[:16] for keyid in self.keyids)
        return (
            f"{self.role} metadata ends on {self.expires:%Y-%m-%d} and was not renewed: "
            f"{self.threshold} of its keys must sign ({keys}), and they are not at hand"
        )


class Refreshed(NamedTuple):
    """The roles that were signed anew, and those that must be and could not."""

    renewed: tuple[str, ...]
    lacking: tuple[Lacking, ...] = ()


def is_due(role: str, expires: datetime, now: datetime) -> bool:
    """Whether ``refresh`` renews the role's metadata by itself."""
    return role in RENEW_BEFORE and expires - now < RENEW_BEFORE[role]


def warning(role: str, expires: datetime, now: datetime) -> str | None:
    """What to say of metadata that ends soon; None where it does not, or has ended."""
    left = expires - now
    if not timedelta() < left <= WARN_BEFORE[role]:
        return None
    return f"{role} metadata ends in {left.days} days, on {expires:%Y-%m-%d}"
