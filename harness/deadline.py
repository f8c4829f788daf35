"""Absolute deadlines on the host's monotonic clock."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment in time; passing it down a call chain never extends it.

    ``seconds`` is the length that it was made with, for messages.
    """

    at: float
    seconds: float

    @classmethod
    def after(cls, seconds: float, scale: float = 1.0) -> Deadline:
        """``seconds`` from now on the machine the figure was chosen on, ``scale`` times here."""
        return cls(time.monotonic() + seconds * scale, seconds * scale)

    @property
    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.at - time.monotonic())

    @property
    def passed(self) -> bool:
        """Whether no time is left."""
        return time.monotonic() >= self.at
