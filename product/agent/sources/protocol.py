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
    given up for this try. ``connect`` and ``silence`` are seconds until a socket times out, and
    ``answer`` those until the headers are there, redirects and all. A server that asks to wait
    longer than ``heed`` seconds is given up. In all, a fetch takes ``multiple`` times the file's
    bytes at most, whatever it has to be sent again.
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
    answer: float = 60.0
    heed: float = 120.0
    multiple: int = 4


DEFAULT_POLICY = FetchPolicy()


def wait_before(policy: FetchPolicy, fruitless: int, asked: float | None) -> float:
    """Seconds until the next try after ``fruitless`` ones; ``asked`` is what the server wants."""
    own = min(policy.first_wait * 2.0 ** max(fruitless - 1, 0), policy.longest_wait)
    return max(own, asked or 0.0)
