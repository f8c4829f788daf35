"""``push`` and ``stick``: what the repository serves, in an OCI registry or on a stick."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from product.disk.labels import UPDATE_LABEL
from product.release.errors import RegistryError
from product.release.oras import Access, Reference
from product.release.push import Pushed
from product.release.push import push as push_repository
from product.release.shared_cli import RepositoryPath
from product.release.stick import make_stick


def push(
    repository: RepositoryPath,
    reference: Annotated[
        str, typer.Argument(metavar="REGISTRY/NAME[:TAG]", help="Where to; the tag is latest.")
    ],
    username: Annotated[str | None, typer.Option(help="Log in with this name.")] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password or token from stdin.")
    ] = False,
    registry_config: Annotated[
        Path | None,
        typer.Option(help="A file with logins, instead of docker's own ~/.docker/config.json."),
    ] = None,
    plain_http: Annotated[
        bool, typer.Option("--plain-http", help="The registry speaks HTTP without TLS.")
    ] = False,
    ca_file: Annotated[
        Path | None, typer.Option(help="PEM file of the authority of the registry's certificate.")
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Replace what the tag names, whatever it is; reads nothing."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Bring what the repository serves into an OCI registry; needs no keys."""
    place = Reference.parse(reference)
    password = None
    if password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
        if not password:
            raise RegistryError("there is no password on stdin")
    access = Access(plain_http, ca_file, registry_config, username, password)
    pushed = push_repository(repository, place, access, force=force, said=_say)
    if as_json:
        typer.echo(json.dumps(_document(pushed), indent=2))
        return
    _show(pushed)


def stick(
    repository: RepositoryPath,
    path: Annotated[
        Path,
        typer.Argument(metavar="FILE|DIRECTORY", help="A new image file, or a mounted stick."),
    ],
) -> None:
    """Bring what the repository serves to a stick that nodes install from; needs no keys."""
    made = make_stick(repository, path)
    size = f"{made.files} files, {-(-made.size // 1_000_000)} MB"
    if not path.is_dir():
        typer.echo(f"made {path}: {size}, labelled {UPDATE_LABEL}")
        return
    removed = f", {made.removed} removed" if made.removed else ""
    typer.echo(f"copied to {path}: {size}{removed}; its label must be {UPDATE_LABEL}")


def _say(line: str) -> None:
    """The program's progress; its last lines are said as the result."""
    if line.startswith(("Copying", "Copied  ")):
        print(line, file=sys.stderr)


def _show(pushed: Pushed) -> None:
    layout = pushed.layout
    if pushed.changed:
        typer.echo(f"pushed    {pushed.reference}, {pushed.uploaded} files were new there")
    else:
        typer.echo(f"unchanged {pushed.reference} serves it already")
    typer.echo(f"index     {layout.digest}")
    for image in layout.images:
        where = f"{image.channel}/{image.architecture} {image.version}"
        typer.echo(f"release   {image.digest}  {where}")


def _document(pushed: Pushed) -> dict[str, object]:
    return {
        "reference": str(pushed.reference),
        "changed": pushed.changed,
        "uploaded": pushed.uploaded,
        "digest": pushed.layout.digest,
        "metadata": pushed.layout.metadata,
        "releases": [image._asdict() for image in pushed.layout.images],
    }
