"""``./noxw -s docs``: check the documents, or write those that are generated.

What is checked here needs no machine and no network; that every command is held, and the commands
that can run on a host, are unit tests (``./noxw -s unit -- scenarios/documents``).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Annotated

import typer

from scenarios.command_line import guarded
from scenarios.documents import reference
from scenarios.documents.claims import hold, read_claims
from scenarios.documents.commands import lines
from scenarios.documents.errors import DocumentError
from scenarios.documents.links import broken
from scenarios.documents.pages import ROOT, every_page, kept_pages
from scenarios.documents.pictures import PICTURES
from scenarios.hardening import cis

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    renew: Annotated[
        bool, typer.Option("--renew", help="Write the pictures and the reference anew.")
    ] = False,
    commands: Annotated[
        bool, typer.Option("--commands", help="Print every command and what holds it.")
    ] = False,
) -> None:
    """Check links, commands, pictures and the reference; print every fault there is."""
    if renew:
        for path, draw in PICTURES.items():
            path.write_text(draw(), encoding="utf-8")
        reference.TARGET.write_text(reference.render(), encoding="utf-8")
        cis.PAGE.write_text(cis.render(), encoding="utf-8")
    if commands:
        for page in kept_pages():
            for line in lines(page):
                print(f"{hold(line, read_claims()):8} {line.where}: {line.text}")
    faults = [*broken(every_page()), *_stale(), *_unheld()]
    for fault in faults:
        print(fault, file=sys.stderr)
    if faults:
        raise DocumentError(
            f"{len(faults)} fault{'s'[: len(faults) != 1]} in the documents",
            hint="correct the lines above; ./noxw -s docs -- --renew writes what is generated",
        )


def _stale() -> Iterator[str]:
    for path, draw in PICTURES.items():
        if not path.exists() or path.read_text(encoding="utf-8") != draw():
            yield f"{path.relative_to(ROOT)}: the picture is not what its sources give"
    target = reference.TARGET
    if not target.exists() or target.read_text(encoding="utf-8") != reference.render():
        yield f"{target.relative_to(ROOT)}: the page is not what the parsers give"
    if not cis.PAGE.exists() or cis.PAGE.read_text(encoding="utf-8") != cis.render():
        yield f"{cis.PAGE.relative_to(ROOT)}: the page is not what fixtures/cis.toml gives"


def _unheld() -> Iterator[str]:
    claims = read_claims()
    for page in kept_pages():
        for line in lines(page):
            try:
                hold(line, claims)
            except DocumentError as error:
                yield error.message


if __name__ == "__main__":
    sys.exit(guarded(app))
