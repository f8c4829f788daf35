"""The latest look for a release: ``/var/lib/kubesolo/update/last-check.json``.

Format: one JSON object with ``time`` (ISO 8601, UTC), ``outcome`` (up-to-date, available, refused,
failed), ``version`` and ``digest`` of the release that was offered, ``code`` (a gate's name, or an
error's) and ``reason``. Absent values are null. It is for people and ``status``: the agent decides
nothing by it, so one that cannot be written or read is none.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import NamedTuple

from product.agent.system.files import read_bounded, write_atomic

MAX_BYTES = 64 * 1024
UP_TO_DATE, AVAILABLE, REFUSED, FAILED = "up-to-date", "available", "refused", "failed"


class LastCheck(NamedTuple):
    """The file's content."""

    time: str
    outcome: str
    version: str | None = None
    digest: str | None = None
    code: str | None = None
    reason: str | None = None


def write_last_check(path: str, found: LastCheck) -> None:
    """Keep it, if the disk lets us."""
    with suppress(OSError):
        write_atomic(path, (json.dumps(found._asdict(), indent=2) + "\n").encode())


def read_last_check(path: str) -> LastCheck | None:
    """None where nobody has looked, or nothing tells of it."""
    try:
        document = json.loads(read_bounded(path, MAX_BYTES))
        found = {field: document.get(field) for field in LastCheck._fields}
        if not all(value is None or isinstance(value, str) for value in found.values()):
            return None
        return LastCheck(**found) if found["time"] and found["outcome"] else None
    except (OSError, ValueError, RecursionError, AttributeError):
        return None
