"""``kubesolo-release``: make keys, publish signed releases, keep a repository trusted.

Exit codes: 0 done, 1 failed (``error:`` and ``hint:`` on stderr say why), 2 wrong usage.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from product import command_line
from product.current import CHANNEL
from product.release import channels
from product.release.deltas import LIMIT_PERCENT, RELEASES, DeltaOptions
from product.release.downloads_cli import verify_download
from product.release.errors import ReleaseError
from product.release.keys import DOWNLOADS, KEYS, ROLES, KeyDirectory
from product.release.marks import Marks
from product.release.prune import KEEP
from product.release.prune import prune as prune_repository
from product.release.push_cli import push, stick
from product.release.repository import Overrides, Repository
from product.release.root_cli import app as root_app
from product.release.shared_cli import (
    ClockOption,
    ExpiresOption,
    KeysOption,
    RepositoryPath,
    in_utc,
    not_past,
    numbers,
    opened,
    show_expiry,
    tell,
)
from product.release.verify import verify as verify_repository
from product.terms import EVERYBODY, Terms

app = typer.Typer(
    help="Publish signed KubeSolo OS releases.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(root_app, name="root")

ChannelOption = Annotated[str, typer.Option(help="The channel.")]
ArchitectureOption = Annotated[
    str | None, typer.Option(help="One architecture instead of all that the channel has.")
]
PercentOption = Annotated[
    int, typer.Option("--rollout", help="Of a hundred nodes, how many install it.")
]
StartOption = Annotated[
    datetime | None, typer.Option(help="When nodes begin to install it, in UTC.")
]
RespinOption = Annotated[
    bool,
    typer.Option("--allow-respin", help="Nodes with another build of the version install it."),
]
DowngradeOption = Annotated[
    bool, typer.Option("--allow-downgrade", help="Nodes with a newer version install it.")
]


DeltasOption = Annotated[
    int,
    typer.Option(
        "--deltas", min=0, max=16, help="From how many releases before, nodes fetch a delta."
    ),
]
LimitOption = Annotated[
    float,
    typer.Option(
        "--delta-limit", min=0, max=100, help="Percent of the whole file that a delta may have."
    ),
]
NoDeltasOption = Annotated[bool, typer.Option("--no-deltas", help="Make no deltas.")]


@app.command()
def keys(
    directory: Annotated[Path, typer.Argument(help="Where to write the keys.")],
    count: Annotated[
        list[str] | None, typer.Option(help="ROLE=N: make N keys for a role instead of one.")
    ] = None,
    role: Annotated[
        list[str] | None, typer.Option(help="Make keys of this role alone; may be repeated.")
    ] = None,
) -> None:
    """Make the private keys of a new repository."""
    chosen = dict.fromkeys(ROLES, 0) if role else {}
    wanted = {**chosen, **dict.fromkeys(role or (DOWNLOADS,), 1), **numbers(count or [])}
    made = KeyDirectory.generate(directory, wanted)
    for each in KEYS:
        for file in made.files(each):
            typer.echo(f"{each:<10} {file}")
    if made.files("root"):
        typer.echo(f"nodes pin   {directory / 'root.pub.pem'}")
    if made.files(DOWNLOADS):
        typer.echo(f"users have  {directory / f'{DOWNLOADS}.pub.pem'}")


@app.command()
def init(
    repository: RepositoryPath,
    keys: KeysOption,
    root_keys: Annotated[
        list[Path] | None,
        typer.Option(help="A directory with another root key, such as a stick; may be repeated."),
    ] = None,
    threshold: Annotated[
        list[str] | None, typer.Option(help="ROLE=N: ask for N signatures instead of one.")
    ] = None,
) -> None:
    """Start an empty repository."""
    Repository.create(
        repository,
        KeyDirectory(keys, also=root_keys or ()),
        thresholds=numbers(threshold or []),
        marks=Marks(keys),
    )
    typer.echo(f"made {repository}")


@app.command()
def publish(
    repository: RepositoryPath,
    slot: Annotated[Path, typer.Argument(help="The directory of the slot's files.")],
    keys: KeysOption,
    channel: Annotated[str, typer.Option(help="The channel that gets the release.")] = CHANNEL,
    notes: Annotated[str, typer.Option(help="Release notes.")] = "",
    min_compatible_version: Annotated[
        str | None, typer.Option(help="Oldest version that can be updated to this one.")
    ] = None,
    rollout: PercentOption = EVERYBODY,
    start: StartOption = None,
    allow_respin: RespinOption = False,
    allow_downgrade: DowngradeOption = False,
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
    deltas: DeltasOption = RELEASES,
    delta_limit: LimitOption = LIMIT_PERCENT,
    no_deltas: NoDeltasOption = False,
    clock_is_right: ClockOption = False,
) -> None:
    """Make a slot's files the release of a channel."""
    opening = opened(repository, keys, clock_is_right)
    published = opening.publish(
        slot,
        channel=channel,
        notes=notes,
        min_compatible_version=min_compatible_version,
        terms=_terms(rollout, start, allow_respin, allow_downgrade),
        overrides=Overrides(expires=not_past(expires), architecture_path=architecture_path),
        allow_drift=allow_drift,
        deltas=_delta_options(deltas, delta_limit, no_deltas),
        say=typer.echo,
    )
    replaced = f", replacing {published.replaces}" if published.replaces else ""
    typer.echo(f"published {published.manifest.version} as {published.target_path}{replaced}")
    typer.echo(f"digest    {published.digest}")
    for line in published.manifest.drift:
        typer.echo(f"not as locked: {line}")
    tell(opening)


@app.command()
def promote(
    repository: RepositoryPath,
    keys: KeysOption,
    source: Annotated[str, typer.Option("--from", help="The channel that has the release.")],
    destination: Annotated[str, typer.Option("--to", help="The channel that gets it.")],
    architecture: ArchitectureOption = None,
    rollout: PercentOption = EVERYBODY,
    start: StartOption = None,
    allow_respin: RespinOption = False,
    allow_downgrade: DowngradeOption = False,
    deltas: DeltasOption = RELEASES,
    delta_limit: LimitOption = LIMIT_PERCENT,
    no_deltas: NoDeltasOption = False,
    clock_is_right: ClockOption = False,
) -> None:
    """Give a channel the release of another, to the byte."""
    opening = opened(repository, keys, clock_is_right)
    terms = _terms(rollout, start, allow_respin, allow_downgrade)
    _show(
        channels.promote(
            opening,
            source,
            destination,
            architecture=architecture,
            terms=terms,
            deltas=_delta_options(deltas, delta_limit, no_deltas),
            say=typer.echo,
        )
    )
    tell(opening)


@app.command()
def rollout(
    repository: RepositoryPath,
    keys: KeysOption,
    percent: Annotated[int, typer.Argument(help="Of a hundred nodes, how many install it.")],
    channel: ChannelOption = CHANNEL,
    architecture: ArchitectureOption = None,
    start: StartOption = None,
    clock_is_right: ClockOption = False,
) -> None:
    """Let more nodes, or fewer, install what a channel serves."""
    opening = opened(repository, keys, clock_is_right)
    done = channels.roll_out(
        opening, channel, percent=percent, start=in_utc(start), architecture=architecture
    )
    for change in done:
        typer.echo(f"{change.path}: {change.now} goes to {percent} of 100 nodes")
    tell(opening)


@app.command()
def pause(
    repository: RepositoryPath,
    keys: KeysOption,
    channel: ChannelOption = CHANNEL,
    architecture: ArchitectureOption = None,
    reason: Annotated[str, typer.Option(help="Why; nodes say it.")] = "",
    clock_is_right: ClockOption = False,
) -> None:
    """Let no node install what a channel serves, until it is resumed."""
    opening = opened(repository, keys, clock_is_right)
    for change in channels.pause(opening, channel, reason, architecture=architecture):
        typer.echo(f"{change.path}: {change.now} is paused")
    tell(opening)


@app.command()
def resume(
    repository: RepositoryPath,
    keys: KeysOption,
    channel: ChannelOption = CHANNEL,
    architecture: ArchitectureOption = None,
    clock_is_right: ClockOption = False,
) -> None:
    """End a pause; the rollout goes on where it was."""
    opening = opened(repository, keys, clock_is_right)
    for change in channels.resume(opening, channel, architecture=architecture):
        typer.echo(f"{change.path}: {change.now} is no longer paused")
    tell(opening)


@app.command()
def withdraw(
    repository: RepositoryPath,
    keys: KeysOption,
    channel: ChannelOption = CHANNEL,
    architecture: ArchitectureOption = None,
    allow_downgrade: Annotated[
        bool, typer.Option("--allow-downgrade", help="Nodes that have installed it go back.")
    ] = False,
    clock_is_right: ClockOption = False,
) -> None:
    """Take a channel's release back: the one before it is served again."""
    opening = opened(repository, keys, clock_is_right)
    _show(
        channels.withdraw(
            opening, channel, architecture=architecture, allow_downgrade=allow_downgrade
        )
    )
    tell(opening)


@app.command()
def prune(
    repository: RepositoryPath,
    keep: Annotated[int, typer.Option(help="Releases of a path that stay.")] = KEEP,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Remove nothing.")] = False,
) -> None:
    """Remove releases and metadata that nothing refers to any more; needs no keys."""
    pruned = prune_repository(repository, keep=keep, dry_run=dry_run)
    for name in pruned.files:
        typer.echo(f"{'would remove' if dry_run else 'removed'} {name}")
    typer.echo(f"{len(pruned.files)} files, {pruned.size} bytes")


@app.command()
def refresh(
    repository: RepositoryPath,
    keys: KeysOption,
    role: Annotated[
        list[str] | None,
        typer.Option(help="A role to sign anew, instead of all that is to be renewed now."),
    ] = None,
    expires: ExpiresOption = None,
    clock_is_right: ClockOption = False,
) -> None:
    """Sign metadata anew before it expires: snapshot, timestamp, and what ends within 60 days."""
    opening = opened(repository, keys, clock_is_right)
    done = opening.refresh(roles=role, expires=not_past(expires))
    typer.echo(f"renewed    {', '.join(done.renewed)}")
    show_expiry(repository)
    tell(opening)
    for lacking in done.lacking:
        print(f"warning: {lacking}", file=sys.stderr)
    if any(lacking.urgent for lacking in done.lacking):
        raise ReleaseError(
            f"not everything of {repository} that ends within 30 days was renewed",
            hint="bring the key to --keys, or sign where it lies: kubesolo-release root export",
        )


@app.command()
def rotate(
    repository: RepositoryPath,
    role: Annotated[str, typer.Argument(help="root, targets, snapshot or timestamp.")],
    keys: KeysOption,
    clock_is_right: ClockOption = False,
) -> None:
    """Replace the keys of a role; the old ones move to the key directory's retired/."""
    opening = opened(repository, keys, clock_is_right)
    for keyid in opening.rotate(role):
        typer.echo(f"{role} is now signed by {keyid}")
    tell(opening)


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
        if terms := _described(release.terms):
            typer.echo(f"{release.path}  {terms}")
    show_expiry(repository)
    for line in report.warnings:
        print(f"warning: {line}", file=sys.stderr)
    if report.problems:
        raise ReleaseError(
            f"{repository} has {len(report.problems)} problems:\n  " + "\n  ".join(report.problems)
        )


app.command()(push)
app.command()(stick)
app.command()(verify_download)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code and prints no traceback for a user's mistake."""
    words = list(sys.argv[1:] if argv is None else argv)
    return command_line.run(lambda: app(args=words, prog_name="kubesolo-release"))


def _delta_options(releases: int, limit: float, none: bool) -> DeltaOptions | None:
    return None if none or not releases else DeltaOptions(releases, limit)


def _terms(percent: int, start: datetime | None, respin: bool, downgrade: bool) -> Terms:
    if not 0 <= percent <= EVERYBODY:
        raise ReleaseError(f"a rollout to {percent} of 100 nodes cannot be: 0 to {EVERYBODY}")
    return Terms(downgrade, respin, percent, in_utc(start))


def _described(terms: Terms) -> str:
    words = []
    if terms.paused is not None:
        words.append(f"paused: {terms.paused}" if terms.paused else "paused")
    if terms.percent != EVERYBODY:
        words.append(f"for {terms.percent} of 100 nodes")
    if terms.start is not None:
        words.append(f"from {terms.start:%Y-%m-%d %H:%M} UTC on")
    if terms.allow_downgrade:
        words.append("as a downgrade")
    if terms.allow_respin:
        words.append("as a respin")
    return ", ".join(words)


def _show(changes: list[channels.Change]) -> None:
    for change in changes:
        now = f"serves {change.now}" if change.now else "serves nothing"
        typer.echo(f"{change.path}: {now}" + (f", not {change.before}" if change.before else ""))
