"""``./noxw -s crash``: every state that a power cut could leave, judged, and each kind booted.

Exit status 0 where every state boots and none is ambiguous, 1 where not, 2 for wrong usage.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from harness.qemu.arch import Arch
from product.errors import KubesoloError
from product.image import progress, recipe
from product.image.build import DEFAULT_RECIPE, Builder
from product.image.cache import Cache
from product.image.tools import HostTools, host_arch
from scenarios.command_line import guarded
from scenarios.crash.boots import Booted, boot_all
from scenarios.crash.judge import Outcome, judge, layout_of, memory, survey
from scenarios.crash.oracle import Oracle
from scenarios.crash.record import Recording, record
from scenarios.crash.report import terminal, write
from scenarios.local import Bench
from scenarios.releases import Releases, host_keys

OUT = Path("out/crash")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class CrashError(KubesoloError):
    """A state is not as it should be, or the run was asked for something that is not there."""


@app.command()
def main(
    arch: Annotated[Arch | None, typer.Option(help="The host's if absent.")] = None,
    phase: Annotated[list[str] | None, typer.Option(help="Judge these alone; repeatable.")] = None,
    bound: Annotated[int, typer.Option(min=0, help="How far apart two reordered writes are.")] = 4,
    recording: Annotated[
        Path | None, typer.Option(help="Judge one that is there; none is made.")
    ] = None,
    at_once: Annotated[int, typer.Option(min=1, help="Machines that boot at a time.")] = 2,
    no_boot: Annotated[bool, typer.Option("--no-boot", help="Boot no state.")] = False,
    out: Annotated[Path, typer.Option(help="Where all is left.")] = OUT,
) -> None:
    """Record a node's life, judge every state that a power cut could leave, boot each kind."""
    own = arch or Arch(host_arch().value)
    cache = Cache()
    tools = HostTools.prepare(cache)
    folder = out / own.value
    folder.mkdir(parents=True, exist_ok=True)
    builder = Builder(recipe.Arch(own.value), cache=cache, tools=tools, recipe=DEFAULT_RECIPE)
    if recording is None:
        found = _record(builder, folder / "recording", cache, tools)
    else:
        found = Recording.read(recording)
    known = [each.name for each in found.phases]
    if unknown := sorted(set(phase or ()) - set(known)):
        raise CrashError(
            f"there is no phase {', '.join(unknown)}", hint=f"there are: {', '.join(known)}"
        )
    with tempfile.TemporaryDirectory(prefix="scratch-", dir=folder) as name:
        scratch = Path(name)
        layout = layout_of(found)
        begun = time.monotonic()
        with progress.step("look at the disk after each flush"):
            survey(found, layout, scratch)
        with (
            tempfile.TemporaryDirectory(prefix="crash-", dir=memory()) as copies,
            progress.step("judge every state"),
        ):
            oracle = Oracle(layout, tools, found.versions, found.cores, found.boot, Path(copies))
            outcome = judge(
                found, layout, oracle, scratch, bound=bound,
                wanted=lambda name: not phase or name in phase, say=progress.note,
            )  # fmt: skip
        seconds = time.monotonic() - begun
        booted: list[Booted] = []
        if not no_boot:
            bench = Bench.prepare(builder)
            with progress.step(f"boot a state of each of {len(outcome.examples)} kinds"):
                booted = boot_all(
                    bench, found, layout, outcome.examples, scratch, folder, progress.note,
                    at_once=at_once,
                )  # fmt: skip
    states = sum(tally.states for tally in outcome.tallies)
    rate = round(states * 60 / seconds)
    about: dict[str, object] = {
        "architecture": own.value, "bound": bound, "states": states,
        "seconds": round(seconds, 1), "states_a_minute": rate,
    }  # fmt: skip
    title = f"Power cuts on {own.value}: {states:,} states, {len(outcome.examples)} kinds"
    write(outcome, booted, about, title, folder)
    console = Console(highlight=False, width=120)
    console.print(terminal(outcome, f"{title}, {rate:,} a minute"))
    console.print(f"report   {folder / 'crash.json'}, crash.md, crash.svg")
    _require_good(outcome, booted)


def _require_good(outcome: Outcome, booted: list[Booted]) -> None:
    """Raises CrashError with what was found first."""
    bad = [(tally.name, *fault) for tally in outcome.tallies for fault in tally.faults]
    if bad:
        count = sum(tally.unbootable + tally.ambiguous for tally in outcome.tallies)
        phase, cut, what = bad[0]
        raise CrashError(
            f"{count} states are unbootable or ambiguous; the first in {phase}, {cut}: {what}",
            hint="crash.json lists the first of each phase",
        )
    wrong = [each for each in booted if each.problem]
    if wrong:
        first = wrong[0]
        raise CrashError(
            f"{len(wrong)} of {len(booted)} boots were not as foretold; the first in "
            f"{first.example.phase}, {first.example.cut}: {first.problem}",
            hint="each boot's folder has its console",
        )


def _record(builder: Builder, folder: Path, cache: Cache, tools: HostTools) -> Recording:
    bench = Bench.prepare(builder)
    with tempfile.TemporaryDirectory(prefix="kubesolo-crash-") as scratch:
        keys = host_keys(cache.root / "harness" / "release-keys")
        releases = Releases(builder, Path(scratch), keys)
        with bench.session("crash", folder.parent / "evidence", "./noxw -s crash") as session:
            node = session.node(log_writes=True)
            return record(node, releases, bench.image.disk, folder, tools)


if __name__ == "__main__":
    sys.exit(guarded(app))
