"""The command of ``kubesolo-release`` for those who have downloaded a release."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from product.release.downloads import PROVENANCE, SIGNERS, load_downloads_key, verify_downloads


def verify_download(
    folder: Annotated[Path, typer.Argument(help="Where the files and SHA256SUMS lie.")],
    key: Annotated[
        Path, typer.Option("--key", help=f"The project's downloads.pub.pem or {SIGNERS}.")
    ],
) -> None:
    """Check downloaded files: signature, sums, and what they were built from."""
    found = verify_downloads(folder, load_downloads_key(key))
    for name in found.files:
        typer.echo(f"as signed   {name}")
    for name in found.others:
        typer.echo(f"not signed  {name}")
    if found.absent:
        typer.echo(f"not here    {len(found.absent)} other files of the release")
    if found.provenance is None:
        typer.echo(f"download {PROVENANCE}, too, to see what they were built from")
        return
    for what, value in _origin(found.provenance):
        typer.echo(f"{what:<11} {value}")


def _origin(predicate: Mapping[str, object]) -> list[tuple[str, object]]:
    """The signer's own words; what is not as expected is left out."""
    match predicate:
        case {
            "buildDefinition": {
                "externalParameters": {"version": version, "channel": channel},
                "internalParameters": {**internal},
                "resolvedDependencies": [{"digest": {"gitCommit": commit}}, *_],
            },
            "runDetails": {"builder": {"id": builder}},
        }:
            lines = [("version", f"{version}, {channel}"), ("commit", commit), ("builder", builder)]
            if "withoutMatrix" in internal:
                lines.append(("not tested", internal["withoutMatrix"]))
            return lines
    return []
