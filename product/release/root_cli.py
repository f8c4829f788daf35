"""``kubesolo-release root``: the next root, for keys that are in no machine but when they sign."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from product.release import offline
from product.release.errors import ReleaseError
from product.release.keys import KeyDirectory
from product.release.shared_cli import (
    ClockOption,
    ExpiresOption,
    KeysOption,
    RepositoryPath,
    not_past,
    numbers,
    opened,
    tell,
)

app = typer.Typer(
    help="Export the next root, sign it where its keys lie, merge it.", no_args_is_help=True
)

NextRoot = Annotated[Path, typer.Argument(help="The file with the next root.")]


@app.command()
def export(
    repository: RepositoryPath,
    file: NextRoot,
    keys: KeysOption,
    add: Annotated[
        list[str] | None, typer.Option(help="ROLE=FILE: give a role the public key in FILE.")
    ] = None,
    remove: Annotated[
        list[Path] | None, typer.Option(help="A public key that no role has any more.")
    ] = None,
    threshold: Annotated[
        list[str] | None, typer.Option(help="ROLE=N: ask for N signatures from then on.")
    ] = None,
    expires: ExpiresOption = None,
    clock_is_right: ClockOption = False,
) -> None:
    """Write the root after the present one, with a later end, for its keys to sign."""
    version = offline.export_root(
        opened(repository, keys, clock_is_right),
        file,
        add=_files(add or []),
        remove=remove or [],
        thresholds=numbers(threshold or []),
        expires=not_past(expires),
    )
    typer.echo(f"root version {version} waits in {file} for signatures")


@app.command()
def sign(file: NextRoot, keys: KeysOption) -> None:
    """Add the signatures of the root keys at hand; needs no repository."""
    for line in offline.describe_root(file):
        typer.echo(line)
    for keyid in offline.sign_root(file, KeyDirectory(keys)):
        typer.echo(f"signed by {keyid}")


@app.command()
def show(repository: RepositoryPath, file: NextRoot, keys: KeysOption) -> None:
    """What signatures the next root has, and how many it lacks."""
    found = offline.inspect_root(opened(repository, keys), file)
    for keyid in found.keyids:
        typer.echo(f"signed by {keyid}")
    typer.echo(
        f"root version {found.version} lacks {found.lacking_former} signatures of the former "
        f"root's keys and {found.lacking_own} of its own"
    )


@app.command()
def merge(
    repository: RepositoryPath,
    file: NextRoot,
    keys: KeysOption,
    clock_is_right: ClockOption = False,
) -> None:
    """Serve the next root; --keys needs the keys of an online role only where they change."""
    opening = opened(repository, keys, clock_is_right)
    typer.echo(f"root version {offline.merge_root(opening, file)} is served")
    tell(opening)


def _files(pairs: list[str]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for pair in pairs:
        role, equals, file = pair.partition("=")
        if not equals or not file:
            raise ReleaseError(f"{pair!r} is not ROLE=FILE, such as targets=targets-2.pub.pem")
        found.setdefault(role, []).append(Path(file))
    return found
