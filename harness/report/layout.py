"""Where the parts of a timeline's picture go, and what text may stand in it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

LEFT = 124  # names of the lanes and of their rows
GLYPH = 6.2  # a generous mean width of a character at 11 px
SMALL_GLYPH = 5.4  # and at 9 px
_MOST_ROWS = 7
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
# What XML 1.0 cannot hold.
_ILLEGAL = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def clean(text: str) -> str:
    """Text without colours, and without what XML or HTML cannot hold."""
    return _ILLEGAL.sub("\N{REPLACEMENT CHARACTER}", _COLOURS.sub("", text))


def shorten(text: str, length: int) -> str:
    """At most ``length`` characters of a text's first line."""
    text = clean(first_line(text))
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def tick_step(seconds: float, most: int = 12) -> float:
    """The distance of ticks: 1, 2 or 5 times a power of ten, so that at most ``most`` fit."""
    if seconds <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(seconds / most))
    return next(step * power for step in (1, 2, 5, 10) if seconds / (step * power) <= most)


def first_line(text: str) -> str:
    """The first line that is not blank."""
    return text.strip().partition("\n")[0]


@dataclass(frozen=True, slots=True)
class Placed:
    """A bar or mark in its row, with a label or without."""

    row: int
    left: float
    right: float
    label: str
    text_at: float
    end_anchored: bool = False


@dataclass
class Rows:
    """Rows of a lane, filled so that nothing lies over anything."""

    limit: float  # the x that labels must not cross
    taken: list[list[tuple[float, float]]] = field(default_factory=list)

    def place(self, left: float, right: float, label: str) -> Placed:
        """Where to draw from ``left`` to ``right``, its label after it or before it.

        Without any room for the label it is left out.
        """
        wide = len(label) * GLYPH + 10
        if label:
            for row in range(_MOST_ROWS):
                if right + wide <= self.limit and self._free(row, left, right + wide):
                    self._take(row, left, right + wide)
                    return Placed(row, left, right, label, right + 4)
                if left - wide >= LEFT and self._free(row, left - wide, right):
                    self._take(row, left - wide, right)
                    return Placed(row, left, right, label, left - 4, end_anchored=True)
        for row in range(_MOST_ROWS):
            if self._free(row, left, right):
                self._take(row, left, right)
                return Placed(row, left, right, "", 0)
        return Placed(_MOST_ROWS - 1, left, right, "", 0)

    @property
    def count(self) -> int:
        """Rows in use, at least one."""
        return max(1, len(self.taken))

    def _free(self, row: int, left: float, right: float) -> bool:
        return row >= len(self.taken) or all(
            right <= begin or left >= end for begin, end in self.taken[row]
        )

    def _take(self, row: int, left: float, right: float) -> None:
        while row >= len(self.taken):
            self.taken.append([])
        self.taken[row].append((left, right))
