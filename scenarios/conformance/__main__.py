"""``python -m scenarios.conformance``: Kubernetes' conformance tests against the image.

Exit status 0 where no test failed, 1 where one did, 2 where the tests could not be run.
"""

from __future__ import annotations

import datetime
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from harness.journal.patterns import Pattern
from harness.qemu.arch import Arch
from product.image import recipe
from product.image.build import Builder
from product.image.cache import Cache
from product.image.payload.upstream import IN_IMAGES, KUBECTL, UpstreamPayload
from product.image.tools import IMAGES, HostTools, host_arch
from scenarios.command_line import guarded
from scenarios.conformance import images
from scenarios.conformance.programs import TESTS, Programs
from scenarios.conformance.results import Conditions, Standing, Verdict, page, read
from scenarios.conformance.run import MACHINE, Brought, ConformanceError, prepare, run
from scenarios.conformance.selection import load_left_out, select
from scenarios.local import Bench

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "out/conformance"
DOCUMENT = ROOT / "docs/conformance.md"
RECIPE = IMAGES / "upstream.toml"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    arch: Annotated[Arch, typer.Option(help="Of the machine under test.")] = Arch.X86_64,
    focus: Annotated[
        str | None, typer.Option(help="A regular expression: tests whose name it is found in.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="So many tests, always the same, of all areas.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=1, help="End the run after so many minutes.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Only what has not passed on this very image.")
    ] = False,
    document: Annotated[
        bool, typer.Option("--document", help=f"Write {DOCUMENT.relative_to(ROOT)}, too.")
    ] = False,
    listing: Annotated[bool, typer.Option("--list", help="Print the tests, run nothing.")] = False,
) -> None:
    """Run Kubernetes' conformance tests against a node with the recipe upstream."""
    cache = Cache()
    programs = Programs(cache)
    names = [test.name for test in programs.listed()]
    left_out = load_left_out()
    selection = select(names, left_out, focus=focus, limit=limit)
    if listing:
        for name in selection.chosen:
            print(name)
        return
    guest = recipe.Arch(arch.value)
    builder = Builder(guest, cache=cache, tools=HostTools.prepare(cache), recipe=RECIPE)
    payload = builder.payload
    if not isinstance(payload, UpstreamPayload) or payload.version != programs.version:
        raise ConformanceError(
            f"the tests are of Kubernetes {programs.version}, and {RECIPE.name} has another",
            hint="./noxw -s lock -- images/go/conformance images/go/node",
        )
    brought = Brought(
        programs.build(TESTS, host_arch()),
        payload.program(KUBECTL, host_arch(), cache),
        images.build(programs, guest, cache, payload.program(IN_IMAGES["pause"], guest, cache)),
    )
    bench = Bench.prepare(builder)
    folder = OUT / arch.value
    folder.mkdir(parents=True, exist_ok=True)
    results = folder / f"results-{bench.image.digest[:16]}.jsonl"
    if resume:
        passed = {
            name for name, one in read(results).items() if one.verdict is Verdict.PASSED
        }  # fmt: skip
        selection = select(names, left_out, focus=focus, limit=limit, passed=frozenset(passed))
    else:
        results.unlink(missing_ok=True)
    words = " ".join(["./noxw -s conformance --", *map(shlex.quote, sys.argv[1:])])
    conditions = Conditions(
        kubernetes=programs.version,
        image=f"upstream {bench.image.slot.version}, {bench.image.digest[:16]}",
        arch=arch.value,
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        host=f"{len(os.sched_getaffinity(0))} cores of {host_arch()}, {bench.host.accelerator}; "
        f"the machine has {MACHINE['cpus']} vCPUs and {MACHINE['memory_mib']} MiB",
        command=words,
    )
    try:
        if selection.chosen:
            _run(bench, brought, selection.chosen, folder, results, minutes, words)
    finally:
        standing = Standing.of(names, read(results), selection.left_out)
        report = folder / "conformance.md"
        report.write_text(page(standing, conditions))
        if document:
            DOCUMENT.write_text(report.read_text())
        print(f"{standing}\nreport: {report}")
    if standing.results[Verdict.FAILED]:
        raise typer.Exit(1)


def _run(
    bench: Bench,
    brought: Brought,
    names: tuple[str, ...],
    folder: Path,
    results: Path,
    minutes: float | None,
    command: str,
) -> None:
    with bench.session("conformance", folder, command) as session:
        node = session.node(**MACHINE)
        prepare(node, brought.images)
        # Tests have containers take more memory than they may.
        with node.journal.tolerating(Pattern.OOM_KILL):
            run(node, brought, names, folder, results, minutes=minutes)


def entry() -> int:
    """Errors become two lines and an exit status."""
    return guarded(app, status=2)


if __name__ == "__main__":
    sys.exit(entry())
