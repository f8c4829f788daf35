"""``./noxw -s publish``: one command makes a release.

Exit codes: 0 done, or nothing is missing for it; 1 something is missing or failed; 2 wrong usage.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from product import command_line
from product.current import CHANNEL, VERSION
from product.errors import KubesoloError
from product.image import drift, progress
from product.image.media.kinds import Kind
from product.image.options import DEFAULT_RECIPE, recipe_path
from product.image.recipe import Arch
from product.image.tools import IMAGES, UNPACKED
from product.publish.artefacts import Target, hardware_targets
from product.publish.errors import PublishError
from product.publish.gates import Examined, examine
from product.publish.pipeline import Pipeline
from product.publish.provenance import LOCAL_BUILDER
from product.publish.request import Request
from product.publish.steps import Step, take_all
from product.release.deltas import LIMIT_PERCENT, RELEASES, DeltaOptions
from product.release.downloads import load_downloads_key, verify_downloads
from product.release.keys import DOWNLOADS
from product.release.shared_cli import in_utc
from product.release.verify import verify
from product.terms import EVERYBODY, Terms

COMMAND = "./noxw -s publish --"
MATRIX_DAYS = 7.0
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def publish(
    repository: Annotated[Path, typer.Option(help="The repository that nodes ask.")],
    keys: Annotated[Path, typer.Option(help="The directory of private keys.")],
    version: Annotated[str, typer.Option(help="The version; the checkout's own.")] = VERSION,
    channel: Annotated[str, typer.Option(help="The channel that gets the release.")] = CHANNEL,
    arch: Annotated[
        list[Arch] | None, typer.Option(help="Guest architecture; may be repeated; else all.")
    ] = None,
    hardware: Annotated[
        list[str] | None,
        typer.Option(
            help="ARCH-NAME: build for this hardware, too, as aarch64-rpi; none: for none. Else "
            "for all that the project has images of."
        ),
    ] = None,
    media: Annotated[
        list[Kind] | None, typer.Option(help="Kind of medium; may be repeated; else all.")
    ] = None,
    recipe: Annotated[Path, typer.Option(help="Recipe, or its name.")] = DEFAULT_RECIPE,
    output: Annotated[
        Path | None, typer.Option(help="Gets what people download; out/release/VERSION.")
    ] = None,
    previous: Annotated[
        str | None,
        typer.Option(help="The release before: its version or folder; else what is served."),
    ] = None,
    matrix: Annotated[
        list[Path] | None,
        typer.Option(help="report.json of a matrix run, or a folder of them; may be repeated."),
    ] = None,
    matrix_days: Annotated[
        float, typer.Option(min=0, help="How many days old a matrix run may be.")
    ] = MATRIX_DAYS,
    without_matrix: Annotated[
        str | None,
        typer.Option(help="Why there is no matrix run. Never for the channel stable."),
    ] = None,
    min_compatible_version: Annotated[
        str | None, typer.Option(help="Oldest version that can be updated to this one.")
    ] = None,
    rollout: Annotated[
        int, typer.Option(min=0, max=EVERYBODY, help="Of a hundred nodes, how many install it.")
    ] = EVERYBODY,
    start: Annotated[
        datetime | None, typer.Option(help="When nodes begin to install it, in UTC.")
    ] = None,
    deltas: Annotated[
        int, typer.Option(min=0, max=16, help="From how many releases before there are deltas.")
    ] = RELEASES,
    builder_id: Annotated[
        str, typer.Option(envvar="KUBESOLO_BUILDER_ID", help="URI of who builds, for provenance.")
    ] = LOCAL_BUILDER,
    allow_drift: Annotated[
        bool,
        typer.Option("--allow-drift", help="Build from other packages than locked. Not stable."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done and what is missing.")
    ] = False,
    only: Annotated[str | None, typer.Option(help="Take one step alone, done or not.")] = None,
) -> None:
    """Build, describe, sign and serve a release; what was done before is not done again."""
    if UNPACKED:
        raise PublishError(
            "a release is made in a checkout, and this is an installed program",
            hint="clone the project, and run ./noxw -s publish there",
        )
    root = IMAGES.parent
    targets = [Target(one) for one in arch or list(Arch)]
    targets += hardware_targets(hardware, [target.arch for target in targets])
    request = Request(
        root=root,
        version=version,
        channel=channel,
        recipe=recipe_path(recipe),
        targets=tuple(dict.fromkeys(targets)),
        kinds=tuple(dict.fromkeys(media or Kind)),
        output=output or root / "out" / "release" / version,
        repository=repository,
        keys=keys,
        builder=builder_id,
        matrix=tuple(matrix or (root / "out" / "scenarios" / "report.json",)),
        matrix_days=matrix_days,
        without_matrix=without_matrix,
        previous=previous,
        min_compatible_version=min_compatible_version,
        terms=Terms(percent=rollout, start=in_utc(start)),
        deltas=DeltaOptions(deltas, LIMIT_PERCENT) if deltas else None,
        allow_drift=allow_drift,
    )
    with drift.allowing(allow_drift):
        _make(request, dry_run, only)


def _make(request: Request, dry_run: bool, only: str | None) -> None:
    seen = examine(request)
    _tell(seen)
    if dry_run:
        _tell_steps(request, seen)
        if not seen.good:
            raise typer.Exit(1)
        return
    if not seen.good:
        missing = sum(not finding.good for finding in seen.findings)
        raise PublishError(
            f"{missing} things are missing for {request.version}, as said above; nothing was done",
            hint="--dry-run says them again without beginning",
        )
    pipeline = Pipeline(request, seen)
    with pipeline.output.alone():
        take_all(pipeline.output, pipeline.steps, _again, only)
    if only is None:
        _check(request)


def _check(request: Request) -> None:
    """Look at the result as a user and as a node do. Raises KubesoloError."""
    with progress.step("verify what people download and what nodes are served"):
        key = load_downloads_key(request.keys / f"{DOWNLOADS}.pub.pem")
        found = verify_downloads(request.output, key)
        if found.absent or found.others:
            odd = (*found.absent, *found.others)
            raise PublishError(f"{request.output} lacks or has beside it: {', '.join(odd)}")
        report = verify(request.repository)
        if report.problems:
            raise PublishError(
                f"{request.repository} does not verify: {report.problems[0]}",
                hint=f"kubesolo-release verify {request.repository}",
            )
    print(request.output)


def _tell(seen: Examined) -> None:
    for finding in seen.findings:
        typer.echo(f"{'ok' if finding.good else 'MISSING':<8} {finding.gate:<10} {finding.found}")
        if finding.hint and not finding.good:
            typer.echo(f"{'':<19} {finding.hint}")


def _tell_steps(request: Request, seen: Examined) -> None:
    if seen.checkout is None or seen.notes is None:
        typer.echo("the steps are known when checkout and changelog are")
        return
    try:
        pipeline = Pipeline(request, seen)
        for step in pipeline.steps:
            done = pipeline.output.done(step) is not None
            typer.echo(f"{'done' if done else 'to do':<8} {step.name}")
    except KubesoloError as error:
        typer.echo(f"the steps cannot be told: {error.message}")


_words: list[str] = []


def _again(step: Step) -> str:
    """The command that takes one step alone."""
    return f"{COMMAND} {shlex.join([*_words, '--only', step.name])}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; every expected error is one line and a hint."""
    words = list(sys.argv[1:] if argv is None else argv)
    _words[:] = _without_only(words)
    return command_line.run(lambda: app(args=words, prog_name="publish"))


def _without_only(words: Sequence[str]) -> list[str]:
    kept: list[str] = []
    skip = False
    for word in words:
        if not skip and word != "--only" and not word.startswith("--only="):
            kept.append(word)
        skip = word == "--only"
    return kept
