"""``run`` and ``list``: a project's scenarios."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli import pytest
from harness.errors import HarnessError

_BOTH = ["lab", "qemu"]


def run(context: typer.Context) -> None:
    """Run scenarios with pytest; every argument is pytest's own.

    Without a file, a folder or a node id: all scenarios of the project, and no other tests.
    """
    arguments = list(context.args)
    marked = any(word == "-m" or word.startswith(("-m=", "--markexpr")) for word in arguments)
    if not pytest.named(arguments) and not marked:
        arguments = ["-m", "scenario", *arguments]
    words = pytest.command(arguments)
    os.execv(words[0], words)


def list_scenarios(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[WORD]...",
            help="show those that have each WORD in their name, tier, architecture or abilities",
        ),
    ] = None,
    folder: Annotated[
        list[Path] | None,
        typer.Option("--in", help="look in this file or folder [pytest's testpaths]"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print a JSON list")] = False,
) -> None:
    """List the project's scenarios with tier, architectures and the abilities that they need."""
    for path in folder or ():
        if not path.exists():
            raise HarnessError(f"there is no {path} to look for scenarios in")
    with tempfile.TemporaryDirectory(prefix="harness-list-") as scratch:
        path = Path(scratch) / "scenarios.json"
        pytest.collect([str(one) for one in folder or ()], path)
        every = json.loads(path.read_bytes())
    found = [one for one in every if _has(one, words or ())]
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    for line in table([_row(one) for one in found], ("TIER", "ARCH", "NEEDS", "SCENARIO")):
        typer.echo(line)
    typer.echo(f"{len(found)} of {len(every)} scenarios")


def _row(one: Mapping[str, Any]) -> tuple[str, ...]:
    tier = str(one["tier"])
    if tier == "core" and one["core_arch"] != "any":
        tier = f"core on {one['core_arch']}"
    needs = list(one["needs"])
    if one["backend"] != _BOTH:
        needs += [f"{name} alone" for name in one["backend"]]
    return tier, ", ".join(one["arch"]) or "-", ", ".join(needs) or "-", str(one["test"])


def _has(one: Mapping[str, Any], words: Sequence[str]) -> bool:
    text = " ".join(_row(one)).lower()
    return all(word.lower() in text for word in words)


def table(rows: Sequence[Sequence[str]], head: Sequence[str]) -> Iterator[str]:
    """Lines of aligned columns; nothing where there are no rows."""
    if not rows:
        return
    widths = [max(len(row[place]) for row in (head, *rows)) for place in range(len(head))]
    for row in (head, *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()
