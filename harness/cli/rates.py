"""How often something fails, and how often at most, given how often it was seen to."""

from __future__ import annotations

import math

CONFIDENCE = 0.95


def upper_bound(failed: int, runs: int, confidence: float = CONFIDENCE) -> float:
    """The exact (Clopper-Pearson) upper bound of a rate, one-sided.

    With a higher rate than this, so few failures in so many runs would be seen less often than in
    1 - ``confidence`` of all cases. Raises ValueError for what cannot be.
    """
    if not 0 <= failed <= runs:
        raise ValueError(f"{failed} of {runs} runs cannot have failed")
    if failed == runs:  # of none, too
        return 1.0
    low, high = failed / runs, 1.0
    # Each step halves what is left; 60 are more than a float can tell apart.
    for _ in range(60):
        middle = (low + high) / 2
        if _at_most(failed, runs, middle) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def _at_most(failed: int, runs: int, rate: float) -> float:
    """The probability of at most ``failed`` failures in ``runs`` at ``rate``, between 0 and 1."""
    if rate in (0.0, 1.0):
        return 1.0 - rate
    total = 0.0
    for count in range(failed + 1):
        ways = math.lgamma(runs + 1) - math.lgamma(count + 1) - math.lgamma(runs - count + 1)
        total += math.exp(ways + count * math.log(rate) + (runs - count) * math.log1p(-rate))
    return total
