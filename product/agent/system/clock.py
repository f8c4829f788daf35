"""Time as the agent sees it, so that tests can set it."""

from __future__ import annotations

import time


class Clock:
    """The machine's clocks."""

    def now(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def local_minute(self, at: float | None = None) -> int:
        """Minutes since local midnight, now or ``at`` seconds since 1970: what windows speak of."""
        local = time.localtime(self.now() if at is None else at)
        return local.tm_hour * 60 + local.tm_min

    def zone(self) -> str:
        """The zone of ``local_minute``: ``CET +0100``, with its distance from UTC."""
        return time.strftime("%Z %z", time.localtime(self.now()))

    def monotonic(self) -> float:
        """Seconds that never step back."""
        return time.monotonic()

    def pause(self, seconds: float) -> None:
        """Let ``seconds`` pass."""
        time.sleep(seconds)


def timestamp(seconds: float) -> str:
    """``seconds`` since 1970 as UTC in ISO 8601, such as ``2026-11-21T10:55:24Z``."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def seconds_of(text: str | None) -> float | None:
    """Seconds since 1970 of what ``timestamp`` wrote; None for anything else."""
    from datetime import UTC, datetime

    try:
        moment = datetime.fromisoformat((text or "").replace("Z", "+00:00"))
        return moment.astimezone(UTC).timestamp() if moment.tzinfo else None
    except (ValueError, OverflowError, OSError):
        return None
