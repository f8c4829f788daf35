"""What pictures of timelines are drawn with: an axis of seconds, lanes, labels, tips."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Sequence

from harness.report.layout import LEFT, Placed, Rows, clean, shorten, tick_step
from harness.report.story import Mark, Tone

WIDTH = 1100
ROW = 16
PAD = 7
RIGHT = 22
MARK_LABEL = 40
_TOOLTIP = 400
SHAPES = {
    Tone.GOOD: "M-5,0 L-2,4 L5,-4 L3.5,-5 L-2,1.5 L-3.5,-0.5 Z",
    Tone.NEUTRAL: "M-3.5,0 A3.5,3.5 0 1 0 3.5,0 A3.5,3.5 0 1 0 -3.5,0 Z",
    Tone.WARNING: "M0,-5 L5,4 L-5,4 Z",
    Tone.FAULT: "M1,-6 L-4,1 L-0.5,1 L-1,6 L4,-1 L0.5,-1 Z",
    Tone.FAILURE: "M-5,-3.5 L-3.5,-5 L0,-1.5 L3.5,-5 L5,-3.5 L1.5,0 L5,3.5 L3.5,5 L0,1.5 "
    "L-3.5,5 L-5,3.5 L-1.5,0 Z",
}


class Drawing:
    """One drawing over ``seconds``; ``y`` runs down as lanes are added."""

    def __init__(self, seconds: float) -> None:
        self._span = max(seconds, 0.001)
        self._root = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "role": "img"})
        # Over all else: a page that scrolls the picture sideways can keep the names in sight.
        self._names = ET.Element("g", {"class": "names"})
        self._names_from: float | None = None
        self._names_to = 0.0
        self._y = 0.0

    def _close(self, paper: ET.Element, label: str) -> ET.Element:
        """Give the paper and the picture their size, when all is drawn."""
        height = round(self._y)
        paper.set("height", str(height))
        self._root.set("class", "timeline")
        self._root.set("viewBox", f"0 0 {WIDTH} {height}")
        self._root.set("width", str(WIDTH))
        self._root.set("height", str(height))
        self._root.set("aria-label", clean(label))
        return self._root

    def _axis(self, grid: ET.Element, top: float) -> None:
        """Below all lanes, whose names now go over what was drawn in them."""
        step = tick_step(self._span)
        digits = max(0, -math.floor(math.log10(step)))
        for number in range(int(self._span / step + 1e-9) + 1):
            x = self._x(number * step)
            self._add("line", "grid", grid, x1=x, x2=x, y1=top, y2=self._y + 3)
            text = self._add("text", "tick", x=x, y=self._y + 15)
            text.text = f"{number * step:.{digits}f}" + (" s" if number == 0 else "")
        if self._names_from is not None:
            ground = self._add(
                "rect", "paper", self._names,
                x=0, y=self._names_from, width=LEFT, height=self._names_to - self._names_from,
            )  # fmt: skip
            self._names.remove(ground)
            self._names.insert(0, ground)  # behind the names
            self._root.append(self._names)
        self._y += 22

    def _x(self, seconds: float) -> float:
        return LEFT + seconds / self._span * (WIDTH - LEFT - RIGHT)

    def _add(
        self, tag: str, kind: str, parent: ET.Element | None = None, **attributes: float | str
    ) -> ET.Element:
        values = {
            name: value if isinstance(value, str) else f"{value:.1f}".removesuffix(".0")
            for name, value in attributes.items()
        }
        owner = self._root if parent is None else parent
        return ET.SubElement(owner, tag, {"class": kind, **values})

    def _tip(self, element: ET.Element, text: str) -> None:
        ET.SubElement(element, "title").text = clean(text)[:_TOOLTIP]

    def _label(self, placed: Placed, y: float, kind: str) -> None:
        if placed.label:
            text = self._add("text", f"label {kind}".strip(), x=placed.text_at, y=y)
            if placed.end_anchored:
                text.set("text-anchor", "end")
            text.text = placed.label

    def _mark_rows(self, marks: Sequence[Mark], top: float, begin: float = 0.0) -> float:
        """Marks with their labels from ``top`` on; the height that they take. Their times count
        from ``begin``."""
        rows = Rows(WIDTH - 4)
        for mark in marks:
            x = self._x(mark.time - begin)
            placed = rows.place(x - 6, x + 6, shorten(mark.label, MARK_LABEL))
            y = top + placed.row * ROW
            shape = self._add(
                "path", f"mark {mark.tone}",
                d=SHAPES[mark.tone], transform=f"translate({x:.1f},{y + 6:.1f})",
            )  # fmt: skip
            self._tip(shape, f"{mark.time:.2f} s: {mark.detail}")
            self._label(placed, y + 9.8, mark.tone.value)
        return rows.count * ROW

    def _lane(self, name: str) -> ET.Element:
        """Begin a lane: its ground, which gets its height at the end, and its name."""
        ground = self._add("rect", "lane", x=LEFT, y=self._y, width=WIDTH - LEFT - 4)
        self._root.remove(ground)
        self._root.insert(1, ground)  # below the grid
        text = self._add("text", "lane-name", self._names, x=8, y=self._y + PAD + 10)
        text.text = clean(name)
        if self._names_from is None:
            self._names_from = self._y
        return ground

    def _row_name(self, name: str, y: float) -> None:
        text = self._add("text", "row-name", self._names, x=LEFT - 6, y=y)
        text.text = name

    def _end_lane(self, ground: ET.Element, height: float) -> None:
        ground.set("height", f"{height:.0f}")
        self._names_to = self._y + height
        self._y += height + 4
