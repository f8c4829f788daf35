"""Under which terms a publisher offers a release: signed fields of its own beside the version.

In the signed ``custom`` object of a release; each key may be absent, and others are ignored::

    "allow_downgrade": true, "allow_respin": true, "paused": "why",
    "rollout": {"percent": 25, "start": "2026-12-01T08:00:00Z"}

``allow_downgrade``: nodes that run a newer version install it, too. ``allow_respin``: so do nodes
that run another build of the same version. ``paused``: nobody installs it for now. ``rollout``: so
many of a hundred nodes install it, from ``start`` on (ISO 8601, UTC). A node finds its place among
the hundred by itself (``cohort``), another one for each release.

It is on the node's boot path, so it uses the standard library alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from product.errors import KubesoloError

TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
EVERYBODY = 100
_FLAGS = ("allow_downgrade", "allow_respin")


class TermsError(KubesoloError):
    """A signed field has a value that it cannot have."""


class Terms(NamedTuple):
    """The signed terms of a release; ``start`` is in UTC, ``paused`` the reason."""

    allow_downgrade: bool = False
    allow_respin: bool = False
    percent: int = EVERYBODY
    start: datetime | None = None
    paused: str | None = None

    def to_custom(self) -> dict[str, object]:
        """The keys of the signed object: those that say something."""
        fields: dict[str, object] = {name: True for name in _FLAGS if getattr(self, name)}
        rollout: dict[str, object] = {}
        if self.percent != EVERYBODY:
            rollout["percent"] = self.percent
        if self.start is not None:
            rollout["start"] = self.start.astimezone(UTC).strftime(TIME_FORMAT)
        if rollout:
            fields["rollout"] = rollout
        if self.paused is not None:
            fields["paused"] = self.paused
        return fields

    @classmethod
    def parse(cls, custom: Mapping[str, object]) -> Terms:
        """Read the terms in ``custom``; raises TermsError for a value that it cannot have."""
        flags = {name: custom.get(name, False) for name in _FLAGS}
        for name, value in flags.items():
            if not isinstance(value, bool):
                raise TermsError(f"the signed field {name} is {value!r:.80}, not true or false")
        rollout = custom.get("rollout", {})
        if not isinstance(rollout, dict):
            raise TermsError(f"the signed field rollout is {rollout!r:.80}, not an object")
        paused = custom.get("paused")
        if paused is not None and not isinstance(paused, str):
            raise TermsError(f"the signed field paused is {paused!r:.80}, not text")
        percent = rollout.get("percent", EVERYBODY)
        if type(percent) is not int or not 0 <= percent <= EVERYBODY:
            raise TermsError(f"the signed rollout is {percent!r:.80} percent, not 0 to {EVERYBODY}")
        start = _moment(rollout.get("start"))
        return cls(bool(flags[_FLAGS[0]]), bool(flags[_FLAGS[1]]), percent, start, paused)


def cohort(node: str, release: str) -> int:
    """Where a node stands among a hundred for one release, from 0; it goes where under the percent.

    ``node`` is the node's identity, ``release`` the digest of the release's manifest in hex.
    """
    digest = hashlib.sha256(f"{node}\n{release}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % EVERYBODY


def _moment(value: object) -> datetime | None:
    if value is None:
        return None
    try:
        return datetime.strptime(str(value), TIME_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        raise TermsError(f"the signed rollout starts at {value!r:.80}, which is no time") from None
