"""``cache``: what lies in the harness's cache, and what of it can go."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Annotated

import typer

from harness.cli.options import ProfileOption
from harness.cli.scenarios import table
from harness.errors import HarnessError
from harness.profile import chosen
from harness.qemu.stored import Entry, Kind, entries, prune

app = typer.Typer(help="What lies in the harness's cache: kind, size, age, last use.")

_UNITS = {"m": 60, "h": 3600, "d": 86400}


@app.callback(invoke_without_command=True)
def show(context: typer.Context, profile: ProfileOption = None) -> None:
    """What lies in the harness's cache: kind, size, age, last use."""
    context.obj = profile
    if context.invoked_subcommand is not None:
        return
    place = chosen(profile).cache() / "harness"
    found = entries(place)
    for line in table([_row(e) for e in found], ("KIND", "SIZE", "MADE", "USED", "NAME", "FILE")):
        typer.echo(line)
    for kind in Kind:
        some = [entry for entry in found if entry.kind is kind]
        if some:
            typer.echo(f"{kind}: {len(some)}, {_bytes(sum(entry.size for entry in some))}")
    typer.echo(f"{_bytes(sum(entry.size for entry in found))} in {place}")


@app.command("prune")
def remove(
    context: typer.Context,
    older_than: Annotated[
        str, typer.Option(metavar="TIME", help="what was not used for so long: 7d, 12h or 30m")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would go")] = False,
    profile: ProfileOption = None,
) -> None:
    """Remove what was not used for some time; what is in use stays, and so do keys."""
    if (match := re.fullmatch(r"(\d+)([mhd])", older_than)) is None:
        raise HarnessError(
            f"{older_than!r} is no time", hint="write a number and m, h or d, as in 7d"
        )
    seconds = int(match[1]) * _UNITS[match[2]]
    place = chosen(profile or context.obj).cache() / "harness"
    gone = prune(place, seconds, dry_run=dry_run)
    _say(gone, "would remove" if dry_run else "removed")
    typer.echo(
        f"{'would free' if dry_run else 'freed'} {_bytes(sum(entry.size for entry in gone))} "
        f"in {place}"
    )


def _say(gone: Sequence[Entry], word: str) -> None:
    for entry in gone:
        typer.echo(f"{word} {entry.kind} {entry.name}: {_bytes(entry.size)}, {entry.path.name}")


def _row(entry: Entry) -> tuple[str, ...]:
    used = "now" if entry.in_use else _ago(entry.used)
    return entry.kind, _bytes(entry.size), _ago(entry.made), used, entry.name, entry.path.name


def _ago(when: float) -> str:
    seconds = max(0.0, time.time() - when)
    for unit, length in reversed(_UNITS.items()):
        if seconds >= 2 * length or unit == "m":
            return f"{seconds / length:.0f} {unit} ago"
    return "now"


def _bytes(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB" if size < 1 << 30 else f"{size / (1 << 30):.1f} GiB"
