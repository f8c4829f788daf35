"""What a run leaves: JSON for programs, a table for people, and a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from rich.table import Table

from scenarios.crash.boots import Booted
from scenarios.crash.judge import Example, Outcome, Tally

# Of kinds that a picture tells apart, and their colours: what the machine starts with.
_COLOURS = {
    "A, confirmed": "#4878a8",
    "B, confirmed": "#6aa84f",
    "on trial": "#e0a030",
    "back to the other slot": "#a64d79",
    "not bootable or ambiguous": "#cc0000",
}
_BAR, _ROW, _LEFT, _WIDTH = 20, 30, 190, 900
# The bars end here; figures stand behind them.
_BARS = 530


def group(example_env: str, slot: str) -> str:
    """What the picture calls a state with this environment, of which GRUB starts ``slot``."""
    if example_env.endswith("+"):
        return f"{slot}, confirmed"
    return "back to the other slot" if example_env[1] == "0" else "on trial"


def groups(tally: Tally) -> dict[str, int]:
    """The states of a phase by what the machine starts with."""
    found = dict.fromkeys(_COLOURS, 0)
    for kind, count in tally.kinds.items():
        found[group(kind.env, kind.slot)] += count
    found["not bootable or ambiguous"] = tally.unbootable + tally.ambiguous
    return found


HEADERS = (
    "phase", "epochs", "writes", "cuts", "states", "torn", "reordered", "kinds", "unbootable",
    "ambiguous", "s",
)  # fmt: skip


def rows(outcome: Outcome) -> list[tuple[str, ...]]:
    """The table's rows, a sum last."""
    found = [_row(tally, len(tally.kinds)) for tally in outcome.tallies]
    total = Tally("all")
    for tally in outcome.tallies:
        for name in ("epochs", "writes", "cuts", "states", "seconds", "unbootable", "ambiguous"):
            setattr(total, name, getattr(total, name) + getattr(tally, name))
        total.by_cut.update(tally.by_cut)
    return [*found, _row(total, len(outcome.examples))]


def _row(tally: Tally, kinds: int) -> tuple[str, ...]:
    numbers = (
        tally.epochs, tally.writes, tally.cuts, tally.states, tally.by_cut["torn"],
        tally.by_cut["reordered"], kinds, tally.unbootable, tally.ambiguous,
    )  # fmt: skip
    return (tally.name, *(f"{number:,}" for number in numbers), f"{tally.seconds:.1f}")


def terminal(outcome: Outcome, title: str) -> Table:
    """The table for a terminal."""
    table = Table(title=title)
    for name in HEADERS:
        table.add_column(name, justify="left" if name == "phase" else "right")
    for row in rows(outcome):
        table.add_row(*row)
    return table


def markdown(outcome: Outcome, booted: Sequence[Booted]) -> str:
    """The same for a document, and the boots."""
    lines = [
        f"| {' | '.join(HEADERS)} |",
        f"|---|{'---:|' * (len(HEADERS) - 1)}",
        *(f"| {' | '.join(row)} |" for row in rows(outcome)),
    ]
    if booted:
        lines += ["", "| phase | kind | boots | outcome |", "|---|---|---|---|"]
        for each in booted:
            verdict = each.problem or "as foretold"
            slots = " ".join(each.slots)
            lines.append(f"| {each.example.phase} | {each.example.kind} | {slots} | {verdict} |")
    return "\n".join(lines) + "\n"


def document(outcome: Outcome, booted: Sequence[Booted], about: dict[str, object]) -> str:
    """JSON: all of it."""
    phases = [
        {
            "name": tally.name, "epochs": tally.epochs, "writes": tally.writes,
            "cuts": tally.cuts, "states": tally.states, "by_cut": dict(tally.by_cut),
            "seconds": round(tally.seconds, 2), "unbootable": tally.unbootable,
            "ambiguous": tally.ambiguous, "groups": groups(tally),
            "faults": [{"cut": cut, "what": what} for cut, what in tally.faults],
        }
        for tally in outcome.tallies
    ]  # fmt: skip
    examples = [_example(example) for example in outcome.examples]
    boots = [
        {
            **_example(each.example), "slots": each.slots, "found": each.found,
            "problem": each.problem,
        }
        for each in booted
    ]  # fmt: skip
    everything = {
        **about, "phases": phases, "kinds": examples, "boots": boots, "asked": outcome.asked
    }  # fmt: skip
    return json.dumps(everything, indent=1) + "\n"


def _example(example: Example) -> dict[str, object]:
    return {
        "phase": example.phase,
        "cut": str(example.cut),
        "kind": example.kind._asdict(),
    }


def picture(outcome: Outcome, title: str) -> str:
    """An SVG: a bar for each phase, its length by the number of states (as a logarithm), divided
    by what the machine starts with."""
    tallies = [tally for tally in outcome.tallies if tally.states]
    height = 96 + _ROW * len(tallies)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'font-family="sans-serif" font-size="13" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="12" y="24" font-size="16" font-weight="bold" fill="#222222">{escape(title)}'
        "</text>",
    ]
    x = 12
    for name, colour in _COLOURS.items():
        out.append(f'<rect x="{x}" y="38" width="12" height="12" fill="{colour}"/>')
        out.append(f'<text x="{x + 17}" y="49" fill="#222222">{escape(name)}</text>')
        x += 34 + 7 * len(name)
    longest = max((_length(tally.states) for tally in tallies), default=1.0)
    for index, tally in enumerate(tallies):
        y = 64 + index * _ROW
        out.append(
            f'<text x="{_LEFT - 10}" y="{y + 15}" text-anchor="end" fill="#222222">'
            f"{escape(tally.name)}</text>"
        )
        width = _BARS * _length(tally.states) / longest
        x_at = float(_LEFT)
        for name, count in groups(tally).items():
            if count:
                part = max(width * count / tally.states, 2.0)
                out.append(
                    f'<rect x="{x_at:.1f}" y="{y}" width="{part:.1f}" height="{_BAR}" '
                    f'fill="{_COLOURS[name]}"/>'
                )
                x_at += part
        bad = tally.unbootable + tally.ambiguous
        out.append(
            f'<text x="{x_at + 8:.1f}" y="{y + 15}" fill="#222222">{tally.states:,} states, '
            f"{bad} bad</text>"
        )
    out.append(
        f'<text x="{_LEFT}" y="{height - 10}" fill="#666666">length: logarithm of the states of a '
        "phase; colours: their shares</text>"
    )
    out.append("</svg>")
    return "\n".join(out) + "\n"


def _length(states: int) -> float:
    """Hundreds are to be seen beside a hundred thousand."""
    length = 0.0
    while states >= 10:
        states, length = states // 10, length + 1
    return length + states / 10


def write(
    outcome: Outcome, booted: Sequence[Booted], about: dict[str, object], title: str, out: Path
) -> None:
    """Leave crash.json, crash.md and crash.svg in ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "crash.json").write_text(document(outcome, booted, about))
    (out / "crash.md").write_text(markdown(outcome, booted))
    (out / "crash.svg").write_text(picture(outcome, title))
