"""Boxes, arrows and text on a sheet of SVG, with a check that text fits where it is put."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

# A generous mean width of a letter, of the size, in the fonts below.
_GLYPH = 0.585
_SIZE = 13
_LINE = 17
_PAD = 8
_STYLE = """
.doc { --ink: #1f2933; --dim: #5b6777; --line: #8a94a3; --paper: #ffffff; --plain: #f1f4f8;
  --plain-edge: #c3cbd6; --a: #dce8fc; --a-edge: #2f6fde; --b: #fbe6d6; --b-edge: #c2570c;
  --good: #d9f2e5; --good-edge: #12805c; --bad: #fde3e1; --bad-edge: #d92d20;
  font-family: system-ui, "Segoe UI", "DejaVu Sans", sans-serif; font-size: 13px; }
@media (prefers-color-scheme: dark) {
  .doc { --ink: #e6e9ef; --dim: #a7b1c0; --line: #76818f; --paper: #12161d; --plain: #1d2430;
    --plain-edge: #3a4557; --a: #17305c; --a-edge: #5b8def; --b: #4a2a10; --b-edge: #e07b2c;
    --good: #123d2d; --good-edge: #32d583; --bad: #4d1b18; --bad-edge: #f97066; }
}
.doc text { fill: var(--ink); }
.doc .dim { fill: var(--dim); font-size: 12px; }
.doc .strong { font-weight: 600; }
.doc .paper { fill: var(--paper); }
.doc .plain { fill: var(--plain); stroke: var(--plain-edge); }
.doc .a { fill: var(--a); stroke: var(--a-edge); }
.doc .b { fill: var(--b); stroke: var(--b-edge); }
.doc .good { fill: var(--good); stroke: var(--good-edge); }
.doc .bad { fill: var(--bad); stroke: var(--bad-edge); }
.doc .arrow { fill: none; stroke: var(--line); stroke-width: 1.5; }
.doc .arrow.good { stroke: var(--good-edge); fill: none; }
.doc .arrow.bad { stroke: var(--bad-edge); fill: none; }
.doc .head { fill: var(--line); }
.doc .head.good { fill: var(--good-edge); stroke: none; }
.doc .head.bad { fill: var(--bad-edge); stroke: none; }
"""


class Tone(StrEnum):
    """What a box or an arrow means."""

    PLAIN = "plain"
    A = "a"
    B = "b"
    GOOD = "good"
    BAD = "bad"


class Box(NamedTuple):
    """A rectangle on the sheet, in its units."""

    x: float
    y: float
    width: float
    height: float

    @property
    def top(self) -> tuple[float, float]:
        """The middle of the upper edge."""
        return self.x + self.width / 2, self.y

    @property
    def bottom(self) -> tuple[float, float]:
        """The middle of the lower edge."""
        return self.x + self.width / 2, self.y + self.height

    @property
    def left(self) -> tuple[float, float]:
        """The middle of the left edge."""
        return self.x, self.y + self.height / 2

    @property
    def right(self) -> tuple[float, float]:
        """The middle of the right edge."""
        return self.x + self.width, self.y + self.height / 2


def width_of(text: str, size: float = _SIZE, *, strong: bool = False) -> float:
    """About how wide a text is drawn; too much rather than too little."""
    return len(text) * size * _GLYPH * (1.06 if strong else 1)


class Canvas:
    """One picture; ``svg`` gives it when all is drawn."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self._width, self._height = width, height
        self._boxes: list[Box] = []
        self._root = ET.Element(
            "svg",
            {
                "xmlns": "http://www.w3.org/2000/svg", "role": "img", "class": "doc",
                "viewBox": f"0 0 {width} {height}", "width": str(width), "height": str(height),
                "aria-label": title,
            },
        )  # fmt: skip
        ET.SubElement(self._root, "style").text = _STYLE
        self._add("rect", "paper", x=0, y=0, width=width, height=height, rx=6)
        # Lines lie below boxes, whenever they are drawn.
        self._lines = ET.SubElement(self._root, "g")

    def box(
        self, x: float, y: float, width: float, height: float, lines: Sequence[str],
        tone: Tone = Tone.PLAIN,
    ) -> Box:  # fmt: skip
        """A box with a strong first line; raises ValueError where text or box has no room."""
        box = Box(x, y, width, height)
        for other in self._boxes:
            if (
                x < other.x + other.width
                and other.x < x + width
                and y < other.y + other.height
                and other.y < y + height
            ):
                raise ValueError(f"the box {lines[:1]} lies over another one")
        self._boxes.append(box)
        self._add("rect", tone, x=x, y=y, width=width, height=height, rx=5)
        first = y + (height - len(lines) * _LINE) / 2 + _LINE - 4.5
        for number, line in enumerate(lines):
            size = _SIZE if number == 0 else 12
            if width_of(line, size, strong=number == 0) > width - _PAD:
                raise ValueError(f"{line!r} is wider than its box of {width}")
            self._text(x + width / 2, first + number * _LINE, line, "strong" * (number == 0))
        if len(lines) * _LINE > height - 2:
            raise ValueError(f"{lines} is higher than its box of {height}")
        return box

    def text(self, x: float, y: float, text: str, anchor: str = "start") -> None:
        """A small line of text; raises ValueError where it leaves the sheet."""
        wide = width_of(text, 12)
        left = x - {"start": 0.0, "middle": wide / 2, "end": wide}[anchor]
        if left < 2 or left + wide > self._width - 2 or not 10 < y < self._height - 2:
            raise ValueError(f"{text!r} leaves the sheet")
        self._text(x, y, text, "dim", anchor)

    def title(self, text: str) -> None:
        """What the picture shows, at its top."""
        self._text(16, 26, text, "strong", "start")

    def arrow(
        self, points: Sequence[tuple[float, float]], tone: Tone = Tone.PLAIN, *, head: bool = True
    ) -> None:
        """A line through points, which ends in a head; its last part is straight up, down or to a
        side."""
        path = " ".join(
            f"{'L' if number else 'M'}{_number(x)},{_number(y)}"
            for number, (x, y) in enumerate(points)
        )
        self._add("path", f"arrow {tone}", self._lines, d=path)
        if not head:
            return
        (x0, y0), (x, y) = points[-2:]
        dx, dy = (x > x0) - (x < x0), (y > y0) - (y < y0)
        if dx and dy:
            raise ValueError("an arrow ends straight")
        back = (x - 8 * dx, y - 8 * dy)
        ends = [(back[0] + 4 * dy, back[1] + 4 * dx), (back[0] - 4 * dy, back[1] - 4 * dx)]
        corners = " ".join(f"{_number(a)},{_number(b)}" for a, b in [(x, y), *ends])
        self._add("polygon", f"head {tone}", self._lines, points=corners)

    def svg(self) -> str:
        """The picture."""
        ET.indent(self._root, space=" ")
        return ET.tostring(self._root, encoding="unicode") + "\n"

    def _text(self, x: float, y: float, text: str, kind: str, anchor: str = "middle") -> None:
        element = self._add("text", kind or "dim", x=x, y=y)
        if anchor != "start":
            element.set("text-anchor", anchor)
        element.text = text

    def _add(
        self, tag: str, kind: str, parent: ET.Element | None = None, **values: float | str
    ) -> ET.Element:
        attributes = {
            name: value if isinstance(value, str) else _number(value)
            for name, value in values.items()
        }
        owner = self._root if parent is None else parent
        return ET.SubElement(owner, tag, {"class": str(kind), **attributes})


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
