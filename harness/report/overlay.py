"""Timelines of one scenario on several targets, laid over each other: QEMU and a board, say.

Each target is a lane, with its boots and below them gates and faults. Its seconds count from its
first start, so that flashing shifts nothing.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from typing import Any

from harness.report.drawing import PAD, ROW, WIDTH, Drawing
from harness.report.layout import shorten
from harness.report.story import Phase, Story
from harness.report.timeline import style

_NAME = 20


def overlay(
    timelines: Sequence[tuple[str, Mapping[str, Any]]], *, title: str = "", embedded: bool = False
) -> str:
    """The picture of timeline documents, each with its target's name, as SVG.

    ``embedded`` leaves the style out, for a page that has it.
    """
    stories = [(name, Story.of(document)) for name, document in timelines]
    root = _Overlay(stories, title).draw()
    if not embedded:
        sheet = ET.Element("style")
        sheet.text = style()
        root.insert(0, sheet)
    ET.indent(root, space=" ")
    return ET.tostring(root, encoding="unicode") + "\n"


def _begin(story: Story) -> float:
    return story.boots[0].begin if story.boots else 0.0


class _Overlay(Drawing):
    def __init__(self, stories: Sequence[tuple[str, Story]], title: str) -> None:
        super().__init__(max((one.seconds - _begin(one) for _, one in stories), default=0.0))
        self._stories = stories
        self._title = title

    def draw(self) -> ET.Element:
        paper = self._add("rect", "paper", x=0, y=0, width=WIDTH, rx=6)
        self._add("text", "title", x=16, y=26).text = shorten(self._title, 100)
        self._y = 40
        top = self._y
        grid = ET.SubElement(self._root, "g")
        for name, story in self._stories:
            self._target(name, story)
        self._axis(grid, top)
        self._legend()
        names = ", ".join(name for name, _ in self._stories)
        return self._close(paper, f"timelines of {self._title}: {names}")

    def _target(self, name: str, story: Story) -> None:
        lane = self._lane(shorten(name, _NAME))
        y, begin = self._y + PAD, _begin(story)
        for boot in story.boots:
            for phase, first, last in boot.spans:
                left, right = self._x(first - begin), self._x(last - begin)
                rect = self._add(
                    "rect", f"phase-{phase.value.replace(' ', '-')}",
                    x=left, y=y, width=max(right - left - 0.4, 0.8), height=ROW,
                )  # fmt: skip
                self._tip(rect, f"{name}, {boot}: {phase}, {last - first:.2f} s")
            if boot.slot is not None and boot.decided is not None:
                text = self._add("text", "label", x=self._x(boot.decided - begin), y=y + 2 * ROW)
                text.text = str(boot)
        height = 2 * ROW + 4.0
        marks = sorted([*story.decisions, *story.faults], key=lambda mark: mark.time)
        if marks := [mark for mark in marks if mark.time >= begin]:
            height += self._mark_rows(marks, y + height, begin)
        self._end_lane(lane, 2 * PAD + height)

    def _legend(self) -> None:
        present = {p for _, one in self._stories for boot in one.boots for p, _ in boot.phases}
        x, self._y = 16.0, self._y + 14
        for phase in (phase for phase in Phase if phase in present):
            kind = f"phase-{phase.value.replace(' ', '-')}"
            self._add("rect", kind, x=x, y=self._y - 9, width=10, height=10)
            self._add("text", "label", x=x + 14, y=self._y).text = phase.value
            x += 26 + 7 * len(phase.value)
        self._y += 12
