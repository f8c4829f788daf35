"""The picture of one machine's timeline over seconds: boots, a lane for each slot, faults, steps.

Pure SVG with a style sheet of its own; nothing is loaded from anywhere, and equal input gives
equal bytes. Colours follow the viewer's light or dark scheme.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.report.drawing import MARK_LABEL, PAD, ROW, SHAPES, WIDTH, Drawing
from harness.report.layout import GLYPH, SMALL_GLYPH, Rows, clean, first_line, shorten
from harness.report.story import Boot, Command, Mark, Phase, Step, Story, Tone

_COMMAND_LABEL = 34
_TITLE_GLYPH = 9.4  # a mean width in the title
_DULL = ("ping", "resync")  # the harness's own: never a group's name if it has another
_STYLE = Path(__file__).parent / "templates" / "timeline.css"
# The rows of a slot's lane, and the phases that each shows.
PARTS = (
    ("firmware", (Phase.FIRMWARE,)),
    ("loader", (Phase.LOADER,)),
    ("kernel", (Phase.KERNEL,)),
    ("early boot", (Phase.INITRAMFS, Phase.STAGES)),
    ("services", (Phase.AGENT, Phase.UP, Phase.STOPPING)),
)
_PART = 13
_DARK_TEXT = (Phase.AGENT, Phase.STAGES)  # phases whose colour is bright
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


class _Picture(Drawing):
    """One machine's timeline."""

    def __init__(self, story: Story, title: str, outcome: str, failure: str) -> None:
        super().__init__(story.seconds)
        self._story = story
        self._deciding = story.deciding(failure)
        self._title = title or story.machine
        self._outcome = outcome
        self._failure = failure

    def draw(self) -> ET.Element:
        story = self._story
        paper = self._add("rect", "paper", x=0, y=0, width=WIDTH, rx=6)
        self._header()
        top = self._y
        grid = ET.SubElement(self._root, "g")
        guides = ET.SubElement(self._root, "g")
        self._boots(story.boots)
        for slot in sorted({boot.slot or "" for boot in story.boots}, key=lambda n: (not n, n)):
            self._slot(slot)
        stray = [one for one in story.decisions if story.boot_at(one.time) is None]
        if stray:
            self._marks("gates", stray)
        if strays := [one for one in self._faults if self._suffered_by(one) is None]:
            self._marks("faults", strays)
        self._commands(story.commands)
        self._steps(story.steps)
        self._axis(grid, top)
        self._guides(guides, top)
        self._legend()
        return self._close(paper, f"timeline of {self._title}: {self._outcome}")

    @property
    def _faults(self) -> list[Mark]:
        """The faults, with what decided the scenario where that is not one of them."""
        faults = self._story.faults
        if self._deciding is None or self._deciding in faults:
            return faults
        return sorted([*faults, self._deciding], key=lambda mark: mark.time)

    def _suffered_by(self, fault: Mark) -> Boot | None:
        """The boot that a fault hit. What ends a boot is its, not the next one's."""
        boots = self._story.boots
        ended = (one for one in boots if one.begin < fault.time <= one.end)
        return next(ended, self._story.boot_at(fault.time))

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
        for boot in boots:
            if boot.decided is not None:
                group = ET.SubElement(self._root, "g")
                self._boot_bar(group, boot, boot.decided, self._y + PAD)
        self._end_lane(lane, 2 * PAD + 18)

    def _slot(self, slot: str) -> None:
        """A slot's lane: rows for the parts of its boots, its gates, and the faults it suffered."""
        lane = self._lane(f"slot {slot}" if slot else "no slot")
        boots = [boot for boot in self._story.boots if (boot.slot or "") == slot]
        y = self._y + PAD
        for name, phases in PARTS:
            spans = [span for boot in boots for span in boot.spans if span[0] in phases]
            if not spans:
                continue
            self._row_name(name, y + 9)
            for phase, begin, end in spans:
                self._phase(phase, begin, end, y)
            y += _PART
        marks = [one for one in self._story.decisions if self._story.boot_at(one.time) in boots]
        if marks:
            self._row_name("gates", y + 10)
            y += self._mark_rows(marks, y)
        if faults := [one for one in self._faults if self._suffered_by(one) in boots]:
            self._row_name("faults", y + 10)
            y += self._mark_rows(faults, y)
        self._end_lane(lane, y - self._y + PAD)

    def _phase(self, phase: Phase, begin: float, end: float, y: float) -> None:
        left, right = self._x(begin), self._x(end)
        rect = self._add(
            "rect", f"phase-{phase.value.replace(' ', '-')}",
            x=left, y=y, width=max(right - left, 0.8), height=11, rx=1.5,
        )  # fmt: skip
        self._tip(rect, f"{phase.value}: {end - begin:.2f} s, from {begin:.2f} s")
        seconds = f"{end - begin:.1f}"
        if phase is not Phase.UP and len(seconds) * SMALL_GLYPH + 3 <= right - left:
            dark = " dark" if phase in _DARK_TEXT else ""
            text = self._add("text", f"on-phase{dark}", x=(left + right) / 2, y=y + 8.7)
            text.text = seconds

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
            labels = [
                f"slot {boot.slot} · restored from a snapshot",
                f"slot {boot.slot}",
                boot.slot,
            ]
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
            y = self._y + PAD + placed.row * ROW
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
        self._end_lane(lane, 2 * PAD + rows.count * ROW)

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
        height = self._mark_rows(marks, self._y + PAD) if marks else ROW
        self._end_lane(lane, 2 * PAD + height - 2)

    def _steps(self, steps: Sequence[Step]) -> None:
        if not steps:
            return
        lane = self._lane("steps")
        rows = Rows(WIDTH - 4)
        for step in steps:
            left = self._x(step.begin)
            right = max(self._x(step.end), left + 2)
            placed = rows.place(left, right, _fitting(step.text, right - left))
            y = self._y + PAD + placed.row * ROW
            rect = self._add(
                "rect", "step" if step.ended else "step open",
                x=left, y=y, width=right - left, height=12, rx=1.5,
            )  # fmt: skip
            state = "" if step.ended else ", which did not end"
            seconds = step.end - step.begin
            self._tip(rect, f"{step.text}: {seconds:.2f} s, from {step.begin:.2f} s{state}")
            if placed.label:
                self._label(placed, y + 9.8, "")
            elif right - left > 20 and (
                inside := shorten(step.text, int((right - left - 6) / GLYPH))
            ):
                text = self._add("text", "on-step", x=left + 4, y=y + 9.3)
                text.text = inside
        self._end_lane(lane, 2 * PAD + rows.count * ROW - 2)

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
        if story.steps:
            entries.append(("step", "step", ""))
        entries += [(tone.value, _TONES[tone], SHAPES[tone]) for tone in Tone if tone in tones]
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


def _fitting(text: str, room: float) -> str:
    """A label beside a step's bar; none where it goes into the bar."""
    label = shorten(text, MARK_LABEL)
    return "" if len(label) * GLYPH + 8 <= room else label


def _said(command: Command) -> str:
    end = "no reply" if not command.answered else "answered"
    if command.exit is not None:
        end = f"exit status {command.exit}"
    return f"{command.name}\n{end}, {command.end - command.begin:.2f} s, from {command.begin:.2f} s"
