"""Figures and the phases of a boot, for the benchmarks."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from rich.table import Table

from harness.journal.journal import Event, Source
from product.errors import KubesoloError
from product.image import progress

# Console lines that end the phases of a boot.
BOOT_PHASES = (
    ("firmware", r"kubesolo: boot slot="),
    ("boot loader and kernel", r"kubesolo: stage initramfs"),
    ("initramfs", r"kubesolo: stage switch_root"),
    ("boot stages", r"enter stage: /etc/runit/2"),
)


@dataclass
class Figures:
    """Rows of the result: name, value, unit, budget."""

    rows: list[tuple[str, float, str, float | None]] = field(default_factory=list)

    def add(self, name: str, value: float, unit: str, budget: float | None = None) -> None:
        """Take one figure and show it."""
        self.rows.append((name, value, unit, budget))
        progress.note(f"{name}: {value:.2f} {unit}")

    def table(self, title: str) -> Table:
        """All figures; a missed budget says so."""
        table = Table(title=title)
        for name in ("figure", "value", "unit", "budget", ""):
            table.add_column(name, justify="right" if name in ("value", "budget") else "left")
        for name, value, unit, budget in self.rows:
            verdict = "" if budget is None else ("ok" if value <= budget else "MISSED")
            limit = "" if budget is None else f"{budget:g}"
            table.add_row(name, f"{value:.2f}", unit, limit, verdict)
        return table


def moment(events: list[Event], expression: str) -> float:
    """When the console first showed a line that matches. Raises KubesoloError."""
    compiled = re.compile(expression)
    for event in events:
        if event.source is Source.CONSOLE and compiled.search(event.text):
            return event.time
    raise KubesoloError(f"the boot never printed /{expression}/")
