"""Run the Go command and show how far it is."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from product.image import progress

# How many lines of a failed command are kept.
_LAST_LINES = 20
# A line a package that is compiled (-v), or a file that is asked for (-x).
_COMPILED = re.compile(r"^[^\s:()]+$")
_FETCHED = re.compile(r"^# get (?:\S*/)?([^/\s]+/@v/\S+?|\S+?):? ")
# Each so many lines are told where nobody watches.
_TOLD = 250


class Ended(NamedTuple):
    """How a command ended: its status, negative for a signal, and its last lines.

    Of the lines that only say how far it is, none is kept.
    """

    status: int
    words: str


def run(
    command: Sequence[str | Path], *, cwd: Path, environment: Mapping[str, str],
    counted: str = "packages compiled",
) -> Ended:  # fmt: skip
    """Run ``command``, which says on standard error what it has done, ``counted`` a line each.

    A command that still runs when this is left early, as by Ctrl-C, is told to end.
    """
    last: list[str] = []
    with (
        Progress(
            SpinnerColumn(),
            TextColumn(f"{{task.completed:.0f}} {counted}, {{task.description}}"),
            TimeElapsedColumn(),
            console=progress.console,
            transient=True,
            disable=not progress.interactive(),
        ) as bar,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, errors="replace", cwd=cwd,
            env=dict(environment),
        ) as process,
    ):  # fmt: skip
        task = bar.add_task("")
        done = 0
        assert process.stderr is not None
        try:
            for line in process.stderr:
                name = _progress_of(line.rstrip())
                if name is None:
                    last = [*last, line.rstrip()][-_LAST_LINES:]
                    continue
                done += bool(name)
                bar.update(task, completed=done, description=name)
                if name and done % _TOLD == 0 and not progress.interactive():
                    progress.note(f"{done} {counted}")
        except BaseException:
            process.terminate()
            raise
    return Ended(process.returncode, "\n".join(last))


def _progress_of(line: str) -> str | None:
    """What a line of progress names, empty where it names nothing new; None for another line."""
    if line.startswith("# get "):
        found = _FETCHED.match(line)
        return found[1] if found and line.endswith(")") and ".zip:" in line else ""
    if _COMPILED.match(line):
        return line.rpartition("/")[2]
    return None
