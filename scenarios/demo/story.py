"""What happened in one part of the demo, as tables, and README's copy of them."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.table import Table

from product.errors import KubesoloError
from product.image import progress

_COLUMNS = ("what", "seconds", "outcome")
# A fenced block of README that begins with the columns' names.
_TABLE = re.compile(r"(?ms)(?<=^```\n)what  .*?(?=^```$)")


@dataclass
class Story:
    """What happened, in order: description, seconds, outcome."""

    rows: list[tuple[str, float, str]] = field(default_factory=list)

    @contextmanager
    def chapter(self, title: str) -> Iterator[list[str]]:
        """Time one step; the yielded list takes its outcome. One that fails is no row."""
        outcome: list[str] = []
        begun = time.monotonic()
        with progress.step(title):
            yield outcome
        self.rows.append((title, time.monotonic() - begun, "; ".join(outcome)))

    def plain(self) -> str:
        """The story as README shows it."""
        rows = [_COLUMNS, *((what, f"{seconds:.1f}", told) for what, seconds, told in self.rows)]
        width = max(len(row[0]) for row in rows)
        lines = (f"{what:<{width}}  {seconds:>7}  {outcome}" for what, seconds, outcome in rows)
        return "".join(f"{line.rstrip()}\n" for line in lines)

    def table(self, title: str) -> Table:
        """The story as a table, with its sum."""
        table = Table(title=title, show_footer=True)
        total = f"{sum(seconds for _, seconds, _ in self.rows):.1f}"
        for name in _COLUMNS:
            right = name == "seconds"
            table.add_column(name, total if right else "", justify="right" if right else "left")
        for what, seconds, outcome in self.rows:
            table.add_row(what, f"{seconds:.1f}", outcome)
        return table


def show_in_readme(readme: Path, stories: Sequence[Story], pictures: Mapping[Path, Path]) -> None:
    """Put the stories in the place of README's tables, in their order, and the pictures of the same
    run in their places. Raises KubesoloError where README has another number of tables."""
    text = readme.read_text()
    found = len(_TABLE.findall(text))
    if found != len(stories):
        raise KubesoloError(
            f"{readme} has {found} tables of the demo, and {len(stories)} were expected",
            hint="a table is a fenced block whose first line begins with: what  ",
        )
    following = iter(stories)
    readme.write_text(_TABLE.sub(lambda _: next(following).plain(), text))
    for picture, place in pictures.items():
        shutil.copyfile(picture, place)
