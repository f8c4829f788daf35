"""What every source of artifacts shares: progress and patience."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

Progress = Callable[[int, int], None]


class FetchPolicy(NamedTuple):
    """How patient a fetch is.

    ``tries`` are tries in a row that bring no byte, ``requests`` all requests of one fetch,
    ``total`` seconds for it. Waits between tries double from ``first_wait`` to ``longest_wait``
    seconds. A server that brings less than ``slowest`` bytes a second over ``window`` seconds is
    given up for this try. ``connect`` and ``silence`` are seconds until a socket times out.
    """

    tries: int = 5
    requests: int = 100
    total: float = 4 * 3600.0
    first_wait: float = 0.5
    longest_wait: float = 8.0
    slowest: int = 1024
    window: float = 30.0
    connect: float = 10.0
    silence: float = 20.0


DEFAULT_POLICY = FetchPolicy()
