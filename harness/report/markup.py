"""Pieces of HTML that the parts of the report share; all text is escaped here."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping

from harness.report.data import Scenario
from harness.report.layout import clean


def esc(text: str) -> str:
    """Text as HTML, without what HTML cannot hold; also fit for an attribute in quotes."""
    return html.escape(clean(text))


def attributes(values: Mapping[str, str]) -> str:
    """Attributes of a tag, each with a space before it."""
    return "".join(f' {name}="{esc(value)}"' for name, value in values.items())


def seconds_text(value: float) -> str:
    """Seconds as a reader says them: 12.3 s, 2 min 5 s, 2 h 1 min."""
    if round(value) >= 7200:
        hours, minutes = divmod(round(value / 60), 60)
        return f"{hours} h {minutes} min"
    if round(value, 1) >= 120:
        minutes, seconds = divmod(round(value), 60)
        return f"{minutes} min {seconds} s"
    return f"{value:.1f} s"


def count(number: int, noun: str) -> str:
    """A number with its noun, which takes an s if it is not one."""
    return f"{number} {noun}{'s'[: number != 1]}"


def card(label: str, value: str, kind: str = "") -> str:
    """A figure with its name."""
    return f'<div class="card {kind}"><b>{esc(value)}</b>{esc(label)}</div>'


def outcome_chip(outcome: str) -> str:
    """An outcome in its colour."""
    kind = outcome if outcome in ("passed", "failed") else ""
    return f'<span class="outcome {kind}">{esc(outcome)}</span>'


def names(test: str, arch: str) -> tuple[str, str]:
    """A test's file, and its name as a sentence without the architecture."""
    group, _, name = test.rpartition("::")
    name, _, values = name.removesuffix("]").partition("[")
    others = [value for value in values.split("-") if value and value != arch]
    sentence = name.removeprefix("test_").replace("_", " ")
    return group, f"{sentence} ({', '.join(others)})" if others else sentence


def boots(one: Scenario) -> str:
    """A chip for each boot, with slot and counter."""
    chips = []
    for machine in one.machines:
        if machine.making or machine.story is None:
            continue
        for boot in machine.story.decided_boots:
            kind = boot.slot.lower() if boot.slot in ("A", "B") else ""
            chips.append(f'<span class="chip {kind}">{esc(str(boot))}</span>')
    return "".join(chips)


def select(identity: str, label: str, first: str, options: Iterable[str | tuple[str, str]]) -> str:
    """A labelled list to choose from, whose ``first`` choice is everything."""
    rows = [f'<option value="">{esc(first)}</option>']
    for option in options:
        value, text = option if isinstance(option, tuple) else (option, option)
        rows.append(f'<option value="{esc(value)}">{esc(text)}</option>')
    return (
        f'<label for="{identity}">{esc(label)}<select id="{identity}">{"".join(rows)}'
        "</select></label>"
    )
