"""The picture of one machine's timeline: boots, decisions, commands and faults over seconds.

Pure SVG with a style sheet of its own; nothing is loaded from anywhere, and equal input gives
equal bytes. Colours follow the viewer's light or dark scheme.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.report.layout import (
    GLYPH,
    LEFT,
    SMALL_GLYPH,
    Placed,
    Rows,
    clean,
    first_line,
    shorten,
    tick_step,
)
from harness.report.story import Boot, Command, Mark, Phase, Story, Tone

WIDTH = 1100
_RIGHT = 22
_ROW = 16
_PAD = 7
_COMMAND_LABEL = 34
_MARK_LABEL = 40
_TITLE_GLYPH = 9.4  # a mean width in the title
_DULL = ("ping", "resync")  # the harness's own: never a group's name if it has another
_TOOLTIP = 400
_STYLE = Path(__file__).parent / "templates" / "timeline.css"
_DARK_TEXT = (Phase.AGENT, Phase.STAGES)  # phases whose colour is bright
_SHAPES = {
    Tone.GOOD: "M-5,0 L-2,4 L5,-4 L3.5,-5 L-2,1.5 L-3.5,-0.5 Z",
    Tone.NEUTRAL: "M-3.5,0 A3.5,3.5 0 1 0 3.5,0 A3.5,3.5 0 1 0 -3.5,0 Z",
    Tone.WARNING: "M0,-5 L5,4 L-5,4 Z",
    Tone.FAULT: "M1,-6 L-4,1 L-0.5,1 L-1,6 L4,-1 L0.5,-1 Z",
    Tone.FAILURE: "M-5,-3.5 L-3.5,-5 L0,-1.5 L3.5,-5 L5,-3.5 L1.5,0 L5,3.5 L3.5,5 L0,1.5 "
    "L-3.5,5 L-5,3.5 L-1.5,0 Z",
}
_TONES = {
    Tone.GOOD: "confirmed",
    Tone.NEUTRAL: "reset, power off",
    Tone.WARNING: "handled failure",
    Tone.FAULT: "injected fault",
    Tone.FAILURE: "failure",
}


def svg(
    timeline: Mapping[str, Any],
    *,
    title: str = "",
    outcome: str = "",
    failure: str = "",
    embedded: bool = False,
) -> str:
    """The picture of a timeline document.

    ``title`` names the scenario (default: the machine), ``outcome`` is ``passed``, ``failed`` or
    other, ``failure`` says why. ``embedded`` leaves the style out, for a page that has ``style()``.
    """
    picture = _Picture(Story.of(timeline), title, outcome, first_line(failure))
    root = picture.draw()
    if not embedded:
        sheet = ET.Element("style")
        sheet.text = style()
        root.insert(0, sheet)
    ET.indent(root, space=" ")
    return ET.tostring(root, encoding="unicode") + "\n"


def style() -> str:
    """The style sheet that pictures need."""
    return _STYLE.read_text()


class _Picture:
    """One drawing; ``y`` runs down as lanes are added."""

    def __init__(self, story: Story, title: str, outcome: str, failure: str) -> None:
        self._story = story
        self._deciding = story.deciding(failure)
        self._title = title or story.machine
        self._outcome = outcome
        self._failure = failure
        self._span = max(story.seconds, 0.001)
        self._root = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "role": "img"})
        self._y = 0.0

    def draw(self) -> ET.Element:
        story = self._story
        paper = self._add("rect", "paper", x=0, y=0, width=WIDTH, rx=6)
        self._header()
        top = self._y
        grid = ET.SubElement(self._root, "g")
        guides = ET.SubElement(self._root, "g")
        self._boots(story.boots)
        self._marks("decisions", story.decisions)
        self._commands(story.commands)
        self._marks("faults", self._faults)
        self._axis(grid, top)
        self._guides(guides, top)
        self._legend()
        height = round(self._y)
        paper.set("height", str(height))
        self._root.set("class", "timeline")
        self._root.set("viewBox", f"0 0 {WIDTH} {height}")
        self._root.set("width", str(WIDTH))
        self._root.set("height", str(height))
        self._root.set("aria-label", clean(f"timeline of {self._title}: {self._outcome}"))
        return self._root

    @property
    def _faults(self) -> list[Mark]:
        """The faults, with what decided the scenario where that is not one of them."""
        faults = self._story.faults
        if self._deciding is None or self._deciding in faults:
            return faults
        return sorted([*faults, self._deciding], key=lambda mark: mark.time)

    # Parts

    def _header(self) -> None:
        story = self._story
        outcome = self._outcome
        tone = {"passed": "good", "failed": "failure"}.get(outcome, "neutral")
        room = WIDTH - 40 - (len(outcome) * 8 + 20 if outcome else 0)
        title = self._add("text", "title", x=16, y=26)
        self._tip(title, self._title)
        title.text = shorten(self._title, int(room / _TITLE_GLYPH))
        if outcome:
            text = self._add("text", f"outcome {tone}", x=WIDTH - 16, y=26)
            text.text = clean(outcome)
        boots = [str(boot) for boot in story.decided_boots]
        facts = [story.machine, story.arch, f"{story.seconds:.1f} s"]
        if boots:
            facts.append(f"{len(boots)} boot{'s'[: len(boots) != 1]}: {' → '.join(boots)}")
        text = self._add("text", "dim", x=16, y=44)
        text.text = clean(" · ".join(fact for fact in facts if fact))
        self._y = 54.0
        if self._failure:
            text = self._add("text", "failure", x=16, y=61)
            text.text = shorten(f"decided by: {self._failure}", int((WIDTH - 32) / GLYPH))
            self._y = 72.0

    def _boots(self, boots: Sequence[Boot]) -> None:
        lane = self._lane("boots")
        bar, strip = self._y + _PAD, self._y + _PAD + 21
        for boot in boots:
            group = ET.SubElement(self._root, "g")
            if boot.decided is not None:
                self._boot_bar(group, boot, boot.decided, bar)
            for phase, begin, end in boot.spans:
                left, right = self._x(begin), self._x(end)
                kind = phase.value.replace(" ", "-")
                rect = self._add(
                    "rect", f"phase-{kind}", group,
                    x=left, y=strip, width=max(right - left, 0.5), height=12,
                )  # fmt: skip
                self._tip(rect, f"{phase.value}: {end - begin:.2f} s, from {begin:.2f} s")
                seconds = f"{end - begin:.1f}"
                if phase is not Phase.UP and len(seconds) * SMALL_GLYPH + 3 <= right - left:
                    dark = " dark" if phase in _DARK_TEXT else ""
                    text = self._add(
                        "text", f"on-phase{dark}", group, x=(left + right) / 2, y=strip + 9.2
                    )
                    text.text = seconds
        self._end_lane(lane, 2 * _PAD + 33)

    def _boot_bar(self, group: ET.Element, boot: Boot, decided: float, y: float) -> None:
        left, right = self._x(decided), self._x(boot.end)
        slot = boot.slot.lower() if boot.slot else "none"
        rect = self._add(
            "rect", f"boot slot-{slot}", group,
            x=left, y=y, width=max(right - left - 1, 1), height=18, rx=3,
        )  # fmt: skip
        what = "restored from a snapshot" if boot.restored else f"slot {boot.slot}"
        labels = [what, "restored" if boot.restored else "", boot.slot or ""]
        if boot.counter is not None:
            tries = f"{boot.counter} tries left"
            if boot.counter == 1:
                tries = "1 try left"
            state = "confirmed" if boot.confirmed else tries
            labels = [
                f"slot {boot.slot} · counter {boot.counter} · {state}",
                f"slot {boot.slot} · counter {boot.counter}",
                f"{boot.slot} · {boot.counter}",
                f"{boot.slot}{boot.counter}",
                f"{boot.slot}",
            ]
        elif boot.slot:
            labels = [f"slot {boot.slot} · restored from a snapshot", f"slot {boot.slot}"]
        self._tip(rect, f"{labels[0]}, {decided:.2f} s to {boot.end:.2f} s")
        wide = right - left - 6
        label = next((label for label in labels if label and len(label) * 6.6 <= wide), "")
        if label:
            text = self._add("text", "on-bar", group, x=(left + right) / 2, y=y + 13)
            text.text = label

    def _commands(self, commands: Sequence[Command]) -> None:
        lane = self._lane("commands")
        rows = Rows(WIDTH - 4)
        for cluster in self._clusters(commands):
            telling = next((one for one in cluster if one.name not in _DULL), cluster[0])
            label = shorten(telling.name, _COMMAND_LABEL)
            if len(cluster) > 1:
                label += f" +{len(cluster) - 1}"
            left = self._x(cluster[0].begin)
            placed = rows.place(left, max(self._x(cluster[-1].end), left + 2), label)
            y = self._y + _PAD + placed.row * _ROW
            for command in cluster:
                kind = "" if command.answered else " lost"
                if command.exit:
                    kind = " bad"
                begin, end = self._x(command.begin), self._x(command.end)
                rect = self._add(
                    "rect", f"command{kind}",
                    x=begin, y=y, width=max(end - begin - 0.4, 1.2), height=11, rx=1.5,
                )  # fmt: skip
                self._tip(rect, _said(command))
            self._label(placed, y + 9.5, "")
        self._end_lane(lane, 2 * _PAD + rows.count * _ROW)

    def _clusters(self, commands: Sequence[Command]) -> list[list[Command]]:
        """Commands to draw under one label: too short, too close for one each."""
        clusters: list[list[Command]] = []
        for command in commands:
            last = clusters[-1] if clusters else None
            if (
                last is not None
                and self._x(command.begin) - self._x(last[-1].end) < 5
                and self._x(command.end) - self._x(command.begin) < 10
                and self._x(last[-1].end) - self._x(last[-1].begin) < 10
            ):
                last.append(command)
            else:
                clusters.append([command])
        return clusters

    def _marks(self, name: str, marks: Sequence[Mark]) -> None:
        lane = self._lane(name)
        rows = Rows(WIDTH - 4)
        for mark in marks:
            x = self._x(mark.time)
            placed = rows.place(x - 6, x + 6, shorten(mark.label, _MARK_LABEL))
            y = self._y + _PAD + placed.row * _ROW
            shape = self._add(
                "path", f"mark {mark.tone}",
                d=_SHAPES[mark.tone], transform=f"translate({x:.1f},{y + 6:.1f})",
            )  # fmt: skip
            self._tip(shape, f"{mark.time:.2f} s: {mark.detail}")
            self._label(placed, y + 9.8, mark.tone.value)
        self._end_lane(lane, 2 * _PAD + rows.count * _ROW - 2)

    def _axis(self, grid: ET.Element, top: float) -> None:
        step = tick_step(self._span)
        digits = max(0, -math.floor(math.log10(step)))
        for number in range(int(self._span / step + 1e-9) + 1):
            x = self._x(number * step)
            self._add("line", "grid", grid, x1=x, x2=x, y1=top, y2=self._y + 3)
            text = self._add("text", "tick", x=x, y=self._y + 15)
            text.text = f"{number * step:.{digits}f}" + (" s" if number == 0 else "")
        self._y += 22

    def _guides(self, guides: ET.Element, top: float) -> None:
        """Lines through all lanes at the moments that explain the others."""
        bottom = self._y - 22
        for mark in self._faults:
            x = self._x(mark.time)
            kind = "deciding" if mark == self._deciding else mark.tone.value
            self._add("line", f"guide {kind}", guides, x1=x, x2=x, y1=top, y2=bottom)

    def _legend(self) -> None:
        story = self._story
        x, self._y = 16.0, self._y + 14
        slots = {boot.slot or "none" for boot in story.decided_boots}
        phases = {phase for boot in story.boots for phase, _ in boot.phases}
        tones = {mark.tone for mark in [*story.decisions, *self._faults]}
        entries = [
            (f"slot-{slot.lower()}", f"slot {slot}" if slot != "none" else "slot not recorded", "")
            for slot in sorted(slots)
        ]
        entries += [
            (f"phase-{phase.value.replace(' ', '-')}", phase.value, "")
            for phase in Phase
            if phase in phases
        ]
        if any(command.answered and not command.exit for command in story.commands):
            entries.append(("command", "command", ""))
        if any(command.exit for command in story.commands):
            entries.append(("command bad", "exit status not 0", ""))
        if any(not command.answered for command in story.commands):
            entries.append(("command lost", "no reply", ""))
        entries += [(tone.value, _TONES[tone], _SHAPES[tone]) for tone in Tone if tone in tones]
        for kind, label, shape in entries:
            wide = 14 + len(label) * (GLYPH + 0.3) + 16
            if x + wide > WIDTH - 10:
                x, self._y = 16.0, self._y + 17
            if shape:
                move = f"translate({x + 5:.1f},{self._y - 4:.1f})"
                self._add("path", f"key {kind}", d=shape, transform=move)
            else:
                self._add("rect", f"key {kind}", x=x, y=self._y - 9, width=10, height=10, rx=2)
            text = self._add("text", "dim", x=x + 14, y=self._y)
            text.text = label
            x += wide
        self._y += 12

    # Means

    def _x(self, seconds: float) -> float:
        return LEFT + seconds / self._span * (WIDTH - LEFT - _RIGHT)

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

    def _lane(self, name: str) -> ET.Element:
        """Begin a lane: its ground, which gets its height at the end, and its name."""
        ground = self._add("rect", "lane", x=LEFT, y=self._y, width=WIDTH - LEFT - 4)
        self._root.remove(ground)
        self._root.insert(1, ground)  # below the grid
        text = self._add("text", "lane-name", x=LEFT - 8, y=self._y + _PAD + 12)
        text.text = name
        return ground

    def _end_lane(self, ground: ET.Element, height: float) -> None:
        ground.set("height", f"{height:.0f}")
        self._y += height + 4


def _said(command: Command) -> str:
    end = "no reply" if not command.answered else "answered"
    if command.exit is not None:
        end = f"exit status {command.exit}"
    return f"{command.name}\n{end}, {command.end - command.begin:.2f} s, from {command.begin:.2f} s"
