"""``python -m scenarios.mutate``: break the product on purpose and see the scenarios fail.

Exit status 0 where every mutation was caught, 1 where one survived, a scenario failed at something
else than its demand or could not be judged, 2 where the table or its results are wrong.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from product.image.recipe import Arch
from scenarios.command_line import guarded
from scenarios.mutations import document
from scenarios.mutations.copies import all_scenarios
from scenarios.mutations.digests import Sources
from scenarios.mutations.freshness import (
    Job,
    Standing,
    State,
    jobs,
    require_judged_on,
    standings,
    summary,
    to_renew,
)
from scenarios.mutations.results import Result, Store, now
from scenarios.mutations.run import Bench, Ran
from scenarios.mutations.table import ROOT, Case, Mutation, MutationError, choose, load

OUT = ROOT / "out" / "mutations"
# Tracked: a table of hours is run in pieces, on several machines.
RESULTS = ROOT / "fixtures" / "mutation-results.json"
DOCUMENT = ROOT / "docs" / "mutations.md"
# So many results of one state are named by --check; --list names all.
_NAMED = 10

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    arch: Annotated[
        Arch | None, typer.Option(help="Only machines of this architecture (default: all needed).")
    ] = None,
    word: Annotated[
        list[str] | None, typer.Option("-k", help="Mutations whose name contains this.")
    ] = None,
    stale: Annotated[
        bool, typer.Option("--stale", help="Only missing results, then stale ones, oldest first.")
    ] = False,
    minutes: Annotated[
        float | None, typer.Option(help="Begin no further mutation after so many minutes.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Check the table, run nothing.")] = False,
    require_fresh: Annotated[
        bool, typer.Option("--require-fresh", help="With --check: fail unless all are fresh.")
    ] = False,
    listing: Annotated[bool, typer.Option("--list", help="Say how fresh each result is.")] = False,
    run: Annotated[bool, typer.Option(help="Run; --no-run only writes the document.")] = True,
) -> None:
    """Run mutations, judge the scenarios that must notice them, renew docs/mutations.md."""
    mutations = load()
    chosen = choose(mutations, word or [])
    store = Store(RESULTS)
    if listing:
        _list(chosen, standings(chosen, store.results(), Sources()))
        return
    scenarios = all_scenarios()
    _require_sound(mutations, scenarios)
    if check:
        found = standings(mutations, store.results(), Sources())
        print(f"{len(mutations)} mutations fit; each of {len(scenarios)} scenarios has one")
        for line in report(found):
            print(line)
        require_kept(store.results(), found)
        require_caught(found)
        _require_current(document.render(mutations, found, scenarios))
        if require_fresh:
            require_all_fresh(found)
        return
    if not run:
        for case in store.keep([case for mutation in mutations for case in mutation.cases]):
            print(f"removed the result of {case}, which nothing needs any more")
        _renew_document(store)
        return
    try:
        caught = _run(_jobs(chosen, store, arch, stale), store, minutes)
    finally:
        _renew_document(store)
    if not caught:
        raise typer.Exit(1)


def _jobs(chosen: Sequence[Mutation], store: Store, arch: Arch | None, stale: bool) -> list[Job]:
    found = standings(chosen, store.results(), Sources())
    if arch is not None:
        require_judged_on(found, arch)
    return jobs(to_renew(found) if stale else found, arch=arch)


def _renew_document(store: Store) -> None:
    """Write it from what is there now: the checkout may have moved on in the hours of a run."""
    mutations = load()
    found = standings(mutations, store.results(), Sources())
    DOCUMENT.write_text(document.render(mutations, found, all_scenarios()))


def _list(mutations: Sequence[Mutation], found: Sequence[Standing]) -> None:
    moment = now()
    for mutation in mutations:
        print(f"{mutation.name}: {mutation.promise}")
        for standing in found:
            if standing.mutation is mutation:
                case = standing.case
                print(f"    {case.scenario} ({case.arch}): {standing.describe(moment)}")
    print(summary(found, moment))


def report(found: Sequence[Standing]) -> list[str]:
    """How many results are fresh, stale and missing, and some of those that are not fresh."""
    moment = now()
    lines = [summary(found, moment)]
    for state in (State.STALE, State.MISSING):
        own = [standing for standing in found if standing.state is state]
        lines += [f"  {s.case}: {s.describe(moment)}" for s in own[:_NAMED]]
        if len(own) > _NAMED:
            more = len(own) - _NAMED
            lines.append(f"  and {more} more are {state}: ./noxw -s mutate -- --list")
    return lines


def _require_sound(mutations: Sequence[Mutation], scenarios: Sequence[str]) -> None:
    """Every edit fits, every scenario exists and has a mutation. Raises MutationError."""
    named = {name for mutation in mutations for name in mutation.scenarios}
    if unknown := sorted(named - set(scenarios)):
        raise MutationError(f"mutations name scenarios that do not exist: {', '.join(unknown)}")
    with tempfile.TemporaryDirectory() as folder:
        for mutation in mutations:
            _require_fit(mutation, Path(folder) / mutation.name)
    if free := [name for name in scenarios if name not in named]:
        raise MutationError(
            f"no mutation breaks {', '.join(free)}", hint="add one to fixtures/mutations.toml"
        )


def require_kept(results: Mapping[Case, Result], found: Sequence[Standing]) -> None:
    """Every result is of a case that is needed. Raises MutationError."""
    if gone := sorted(results.keys() - {standing.case for standing in found}):
        raise MutationError(
            f"{RESULTS.name} has results that belong to nothing: {'; '.join(map(str, gone))}",
            hint="./noxw -s mutate -- --no-run removes them",
        )


def require_caught(found: Sequence[Standing]) -> None:
    """No fresh result shows a promise that nobody keeps watch over. Raises MutationError."""
    survived = [s for s in found if s.state is State.FRESH and not s.caught]
    if survived:
        raise MutationError(
            f"{RESULTS.name}: nobody noticed {'; '.join(str(s.case) for s in survived)}",
            hint="sharpen the scenario or the mutation, and run it again",
        )


def require_all_fresh(found: Sequence[Standing]) -> None:
    """What a release needs. Raises MutationError."""
    if any(standing.state is not State.FRESH for standing in found):
        raise MutationError(
            f"a release needs every result fresh; {summary(found, now())}",
            hint="./noxw -s mutate -- --stale renews them",
        )


def _require_current(text: str) -> None:
    """The document says what the results are. Raises MutationError."""
    if not DOCUMENT.exists() or DOCUMENT.read_text() != text:
        raise MutationError(
            f"{DOCUMENT.relative_to(ROOT)} is not what {RESULTS.relative_to(ROOT)} says",
            hint="./noxw -s mutate -- --no-run renews it",
        )


def _require_fit(mutation: Mutation, copy: Path) -> None:
    for name in mutation.files:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).exists():
            (copy / name).write_bytes((ROOT / name).read_bytes())
    for edit in mutation.edit:
        edit.apply(copy)


def _run(chosen: Sequence[Job], store: Store, minutes: float | None) -> bool:
    """Whether every mutation was caught; each result is kept as soon as it is there."""
    if not chosen:
        print("nothing to run: every result that was asked for is fresh")
        return True
    began = time.monotonic()
    until = None if minutes is None else began + minutes * 60
    mutations = {job.mutation.name: job.mutation for job in chosen}

    def is_caught(result: Result) -> bool:
        return result.caught_by(mutations[result.mutation])

    table = Table("mutation", "scenario", "architecture", "outcome", "seconds")
    done: list[Ran] = []
    for ran in Bench(OUT).run(chosen, is_caught, until=until):
        done.append(ran)
        print(f"[{len(done)}/{len(chosen)}] {ran.job.mutation.name} ({ran.job.arch})", flush=True)
        for result in ran.results:
            store.add(result)
            words = result.verdict(ran.job.mutation)
            mark = "caught" if is_caught(result) else "NOT CAUGHT"
            print(f"    {mark}: {result.scenario}: {words[:240]}", flush=True)
            outcome = mark if mark == "caught" else f"{mark}: {words}"
            table.add_row(*_cells(result.case), outcome, f"{result.seconds:.0f}")
        for name, why in ran.not_judged.items():
            print(f"    {name}: {why}", flush=True)
            table.add_row(*_cells(Case(ran.job.mutation.name, name, ran.job.arch)), why, "")
        print(f"    after {time.monotonic() - began:.0f} s", flush=True)
    Console().print(table)
    if left := len(chosen) - len(done):
        print(f"{left} mutations were not begun: the {minutes:g} minutes are over")
    bad = [r.job for r in done if r.not_judged or not all(map(is_caught, r.results))]
    if bad:
        names = ", ".join(f"{job.mutation.name} ({job.arch})" for job in bad)
        print(f"not caught: {names}; evidence lies under {OUT}")
    return not bad


def _cells(case: Case) -> tuple[str, str, str]:
    return case.mutation, case.scenario, case.arch


def entry() -> int:
    """Errors become two lines and an exit status."""
    # Ended from outside, it still ends pytest and removes the copy.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    return guarded(app, status=2)


if __name__ == "__main__":
    sys.exit(entry())
