"""The phases of an update and every step between them, from the table that the agent obeys."""

from __future__ import annotations

from itertools import pairwise

from product.agent.records.state import TRANSITIONS, Phase
from scenarios.documents.pictures.canvas import Box, Canvas, Tone

# The way of an update that goes well, from left to right, and where the others stand.
_WAY = (
    Phase.IDLE, Phase.CHECKING, Phase.DOWNLOADING, Phase.STAGED, Phase.ACTIVATED, Phase.VERIFYING,
    Phase.SUCCESS,
)  # fmt: skip
_SAYS = {
    Phase.IDLE: "nothing tried",
    Phase.CHECKING: "look, gates",
    Phase.DOWNLOADING: "write the slot",
    Phase.STAGED: "whole, verified",
    Phase.ACTIVATED: "armed, 3 tries",
    Phase.VERIFYING: "on trial",
    Phase.SUCCESS: "confirmed",
    Phase.FAILED: "nothing armed",
    Phase.ROLLED_BACK: "quarantined",
}
_TONES = {Phase.SUCCESS: Tone.GOOD, Phase.FAILED: Tone.BAD, Phase.ROLLED_BACK: Tone.BAD}
_WIDTH, _HEIGHT, _STEP, _TOP = 118, 48, 142, 120


def draw() -> str:
    """The picture as SVG; raises ValueError for a phase or a step that has no place in it."""
    canvas = Canvas(1014, 380, "The phases of an update and the steps between them")
    canvas.title("Phases of an update: every step that the agent may take")
    boxes = {
        phase: _box(canvas, phase, 16 + number * _STEP, _TOP) for number, phase in enumerate(_WAY)
    }
    boxes[Phase.FAILED] = _box(canvas, Phase.FAILED, 16 + 1.5 * _STEP, 220)
    boxes[Phase.ROLLED_BACK] = _box(canvas, Phase.ROLLED_BACK, 16 + 3 * _STEP, 316)
    if boxes.keys() != set(Phase):
        raise ValueError(f"phases without a place: {set(Phase) - boxes.keys()}")
    drawn = _new_attempts(canvas, boxes) | _rollbacks(canvas, boxes) | _forward(canvas, boxes)
    steps = {(phase, after) for phase, afters in TRANSITIONS.items() for after in afters}
    if drawn != steps:
        raise ValueError(f"steps without a place: {sorted(steps ^ drawn)}")
    return canvas.svg()


def _box(canvas: Canvas, phase: Phase, x: float, y: float) -> Box:
    tone = _TONES.get(phase, Tone.PLAIN)
    return canvas.box(x, y, _WIDTH, _HEIGHT, [phase.value, _SAYS[phase]], tone)


Steps = set[tuple[Phase, Phase]]


def _forward(canvas: Canvas, boxes: dict[Phase, Box]) -> Steps:
    """The way of an update, back to idle where there is nothing new, and the failures."""
    drawn: Steps = set()
    for before, after in pairwise(_WAY):
        if after in TRANSITIONS[before]:
            canvas.arrow([boxes[before].right, boxes[after].left], Tone.GOOD)
            drawn.add((before, after))
    failed = boxes[Phase.FAILED]
    for number, phase in enumerate((Phase.CHECKING, Phase.DOWNLOADING)):
        if Phase.FAILED in TRANSITIONS[phase]:
            x = failed.x + 25 + number * (failed.width - 50)
            y = boxes[phase].bottom[1]
            canvas.arrow([(x, y), (x, failed.y)], Tone.BAD)
            drawn.add((phase, Phase.FAILED))
    if Phase.FAILED in TRANSITIONS[Phase.ACTIVATED]:
        x, y = boxes[Phase.ACTIVATED].x + 24, failed.right[1]
        canvas.arrow([(x, boxes[Phase.ACTIVATED].bottom[1]), (x, y), failed.right], Tone.BAD)
        canvas.text(x - 8, y - 6, "never tried", "end")
        drawn.add((Phase.ACTIVATED, Phase.FAILED))
    if Phase.IDLE in TRANSITIONS[Phase.CHECKING]:
        x = boxes[Phase.CHECKING].x + 24
        y, target = boxes[Phase.CHECKING].bottom[1], boxes[Phase.IDLE].x + 95
        canvas.arrow([(x, y), (x, y + 26), (target, y + 26), (target, y)])
        canvas.text(target + 4, y + 42, "nothing new")
        drawn.add((Phase.CHECKING, Phase.IDLE))
    return drawn


def _new_attempts(canvas: Canvas, boxes: dict[Phase, Box]) -> Steps:
    """What may begin a new attempt: a line over all of them, into checking from above."""
    checking = boxes[Phase.CHECKING]
    begin = [
        phase
        for phase, afters in TRANSITIONS.items()
        if Phase.CHECKING in afters and phase is not Phase.IDLE
    ]
    line, into = 78.0, checking.top[0]
    far = into
    for phase in begin:
        box = boxes[phase]
        x = box.top[0]
        if phase is Phase.CHECKING:
            x = into + 34
            canvas.arrow([(x, box.y), (x, line)], head=False)
        elif phase is Phase.FAILED:
            # Between two boxes of the row above it.
            x = boxes[Phase.CHECKING].right[0] + 12
            y = box.top[1] + 24
            canvas.arrow([(box.x, y), (x, y), (x, line)], head=False)
        elif phase is Phase.ROLLED_BACK:
            x = 1001.0
            canvas.arrow([box.right, (x, box.right[1]), (x, line)], head=False)
        else:
            canvas.arrow([box.top, (x, line)], head=False)
        far = max(far, x)
    canvas.arrow([(far, line), (into, line), (into, checking.y)])
    canvas.text(into + 8, line - 8, "a new attempt: apply, a look by schedule, a stick, a pod")
    return {(phase, Phase.CHECKING) for phase in begin}


def _rollbacks(canvas: Canvas, boxes: dict[Phase, Box]) -> Steps:
    """A rollback may be asked for at any time; a line below all of them leads to it."""
    back = boxes[Phase.ROLLED_BACK]
    begin = [phase for phase, afters in TRANSITIONS.items() if Phase.ROLLED_BACK in afters]
    line = 286.0
    left, right = back.top[0], back.top[0]
    for phase in begin:
        box = boxes[phase]
        x = box.bottom[0]
        if phase is Phase.ROLLED_BACK:
            y = back.y + 34
            canvas.arrow(
                [(back.x, y), (back.x - 26, y), (back.x - 26, back.y + 14), (back.x, back.y + 14)],
                Tone.BAD,
            )
            continue
        if phase in (Phase.CHECKING, Phase.IDLE):
            x = box.x + 50
        elif phase is Phase.DOWNLOADING:
            x = box.right[0] - 14
        canvas.arrow([(x, box.bottom[1]), (x, line)], Tone.BAD, head=False)
        left, right = min(left, x), max(right, x)
    canvas.arrow([(left, line), (right, line)], Tone.BAD, head=False)
    canvas.arrow([(back.top[0], line), back.top], Tone.BAD)
    canvas.text(back.right[0] + 14, 308, "a failed trial, or kubesolo-update rollback at any time")
    return {(phase, Phase.ROLLED_BACK) for phase in begin}
