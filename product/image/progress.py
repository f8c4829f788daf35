"""Progress for people: nested step lines with durations, and one bar for downloads."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TextIO

from rich.console import Console

# Versions hold colons, and a name between two of them would be drawn as a picture.
console = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)
_depth = 0


@contextlib.contextmanager
def step(title: str) -> Iterator[None]:
    """Print ``title`` when a step starts that takes long, and how long it took when it ends."""
    global _depth
    indent = "  " * _depth
    console.print(f"{indent}[bold]>[/bold] {title}")
    started = time.monotonic()
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
    console.print(f"{indent}[dim]  {title}: {time.monotonic() - started:.1f} s[/dim]")


def note(text: str) -> None:
    """One line inside the current step."""
    console.print("  " * _depth + text)


@contextlib.contextmanager
def shown_on(file: TextIO) -> Iterator[None]:
    """Within this scope lines go to ``file`` in place of standard error."""
    global console
    before = console
    console = Console(file=file, highlight=False, soft_wrap=True, emoji=False)
    try:
        yield
    finally:
        console = before


def interactive() -> bool:
    """Whether a person watches: bars are drawn only then."""
    return sys.stderr.isatty()
