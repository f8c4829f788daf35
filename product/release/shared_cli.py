"""What the commands of ``kubesolo-release`` share: their options, and how they say things."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from product.release.errors import ReleaseError
from product.release.keys import KeyDirectory
from product.release.marks import Marks
from product.release.repository import Repository, utc_now
from product.release.state import read_state

RepositoryPath = Annotated[Path, typer.Argument(help="The repository's directory.")]
KeysOption = Annotated[Path, typer.Option("--keys", help="The directory of private keys.")]
ExpiresOption = Annotated[
    datetime | None,
    typer.Option(help="When the metadata signed now ends being valid, in UTC."),
]
ClockOption = Annotated[
    bool,
    typer.Option(
        "--clock-is-right", help="Sign although this host's clock is far from the last signing."
    ),
]


def opened(repository: Path, keys: Path, clock_is_right: bool = False) -> Repository:
    """The repository, with the marks that lie beside the keys."""
    return Repository.open(
        repository, KeyDirectory(keys), marks=Marks(keys), clock_is_right=clock_is_right
    )


def tell(repository: Repository) -> None:
    """Print what a person should know of a change."""
    for note in repository.notes:
        print(f"note: {note}", file=sys.stderr)


def show_expiry(repository: Path) -> None:
    """Until when each role's metadata is valid."""
    state = read_state(repository)
    for signed in (state.root, state.targets, state.snapshot, state.timestamp):
        typer.echo(f"{signed.type:<10} valid until {signed.expires:%Y-%m-%d %H:%M} UTC")


def in_utc(moment: datetime | None) -> datetime | None:
    """A time of the command line, which is in UTC."""
    return None if moment is None else moment.replace(tzinfo=UTC)


def not_past(expires: datetime | None) -> datetime | None:
    """An end of validity in UTC; raises ReleaseError for one that has passed."""
    end = in_utc(expires)
    if end is not None and end <= utc_now():
        raise ReleaseError(
            f"--expires {end:%Y-%m-%d %H:%M} UTC has passed: every node would refuse the metadata",
            hint="name a time to come, or leave --expires out",
        )
    return end


def numbers(pairs: Sequence[str]) -> dict[str, int]:
    """``["root=2"]`` as ``{"root": 2}``."""
    found = {}
    for pair in pairs:
        role, equals, number = pair.partition("=")
        if not equals or not (number.isascii() and number.isdigit() and len(number) < 4):
            raise ReleaseError(f"{pair!r} is not ROLE=NUMBER, such as root=2")
        found[role] = int(number)
    return found
