"""``kubesolo-release``: make keys, publish signed releases, keep a repository trusted.

Exit codes: 0 done, 1 failed (``error:`` and ``hint:`` on stderr say why), 2 wrong usage.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from product.errors import KubesoloError
from product.release.errors import ReleaseError
from product.release.keys import ROLES, KeyDirectory
from product.release.repository import Overrides, Repository
from product.release.state import read_state
from product.release.verify import verify as verify_repository

app = typer.Typer(
    help="Publish signed KubeSolo OS releases.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

RepositoryPath = Annotated[Path, typer.Argument(help="The repository's directory.")]
KeysOption = Annotated[Path, typer.Option("--keys", help="The directory of private keys.")]
ExpiresOption = Annotated[
    datetime | None,
    typer.Option(help="When the metadata signed now ends being valid, in UTC."),
]


@app.command()
def keys(
    directory: Annotated[Path, typer.Argument(help="Where to write the keys.")],
    count: Annotated[
        list[str] | None, typer.Option(help="ROLE=N: make N keys for a role instead of one.")
    ] = None,
) -> None:
    """Make the private keys of a new repository."""
    made = KeyDirectory.generate(directory, _numbers(count or []))
    for role in ROLES:
        for file in made.files(role):
            typer.echo(f"{role:<10} {file}")
    typer.echo(f"nodes pin   {directory / 'root.pub.pem'}")


@app.command()
def init(
    repository: RepositoryPath,
    keys: KeysOption,
    threshold: Annotated[
        list[str] | None, typer.Option(help="ROLE=N: ask for N signatures instead of one.")
    ] = None,
) -> None:
    """Start an empty repository."""
    Repository.create(repository, KeyDirectory(keys), thresholds=_numbers(threshold or []))
    typer.echo(f"made {repository}")


@app.command()
def publish(
    repository: RepositoryPath,
    slot: Annotated[Path, typer.Argument(help="The directory of the slot's files.")],
    keys: KeysOption,
    channel: Annotated[str, typer.Option(help="The channel that gets the release.")] = "stable",
    notes: Annotated[str, typer.Option(help="Release notes.")] = "",
    min_compatible_version: Annotated[
        str | None, typer.Option(help="Oldest version that can be updated to this one.")
    ] = None,
    expires: ExpiresOption = None,
    architecture_path: Annotated[
        str | None, typer.Option(help="Serve to this architecture instead of the manifest's.")
    ] = None,
    allow_drift: Annotated[
        bool,
        typer.Option(
            "--allow-drift", help="Publish also what was built from other packages than locked."
        ),
    ] = False,
) -> None:
    """Make a slot's files the release of a channel."""
    published = Repository.open(repository, KeyDirectory(keys)).publish(
        slot,
        channel=channel,
        notes=notes,
        min_compatible_version=min_compatible_version,
        overrides=Overrides(expires=_utc(expires), architecture_path=architecture_path),
        allow_drift=allow_drift,
    )
    replaced = f", replacing {published.replaces}" if published.replaces else ""
    typer.echo(f"published {published.manifest.version} as {published.target_path}{replaced}")
    typer.echo(f"digest    {published.digest}")
    for line in published.manifest.drift:
        typer.echo(f"not as locked: {line}")


@app.command()
def refresh(
    repository: RepositoryPath,
    keys: KeysOption,
    role: Annotated[
        list[str] | None, typer.Option(help="A role to sign anew; snapshot and timestamp if none.")
    ] = None,
    expires: ExpiresOption = None,
) -> None:
    """Sign metadata anew before it expires."""
    roles = role or ["snapshot", "timestamp"]
    Repository.open(repository, KeyDirectory(keys)).refresh(roles=roles, expires=_utc(expires))
    _show_expiry(repository)


@app.command()
def rotate(
    repository: RepositoryPath,
    role: Annotated[str, typer.Argument(help="root, targets, snapshot or timestamp.")],
    keys: KeysOption,
) -> None:
    """Replace the keys of a role; the old ones move to the key directory's retired/."""
    for keyid in Repository.open(repository, KeyDirectory(keys)).rotate(role):
        typer.echo(f"{role} is now signed by {keyid}")


@app.command()
def verify(repository: RepositoryPath) -> None:
    """Check every signature, date, target and artifact; needs no keys."""
    report = verify_repository(repository)
    for release in report.releases:
        typer.echo(
            f"{release.path}  {release.version}  {release.architecture}  "
            f"{release.release_date}  {release.digest}"
        )
        if release.drift:
            typer.echo(f"{release.path}  not as locked: {len(release.drift)} packages are others")
    _show_expiry(repository)
    if report.problems:
        raise ReleaseError(
            f"{repository} has {len(report.problems)} problems:\n  " + "\n  ".join(report.problems)
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code and prints no traceback for a user's mistake."""
    try:
        app(
            args=list(sys.argv[1:] if argv is None else argv),
            prog_name="kubesolo-release",
        )
    except KubesoloError as error:
        print(f"error: {error}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"error: {error.filename or 'a file'}: {error.strerror or error}", file=sys.stderr)
        return 1
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0


def _show_expiry(repository: Path) -> None:
    state = read_state(repository)
    for signed in (state.root, state.targets, state.snapshot, state.timestamp):
        typer.echo(f"{signed.type:<10} valid until {signed.expires:%Y-%m-%d %H:%M} UTC")


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=UTC)


def _numbers(pairs: Sequence[str]) -> dict[str, int]:
    """``["root=2"]`` as ``{"root": 2}``."""
    numbers = {}
    for pair in pairs:
        role, equals, number = pair.partition("=")
        if not equals or not number.isdecimal():
            raise ReleaseError(f"{pair!r} is not ROLE=NUMBER, such as root=2")
        numbers[role] = int(number)
    return numbers
