"""``python -m scenarios.mutate``: break the product on purpose and see the scenarios fail.

Exit status 0 where every mutation was caught, 1 where one survived or a scenario failed for another
reason than the mutation, 2 where the table itself is wrong.
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

from product.errors import KubesoloError
from product.image.recipe import Arch
from scenarios.mutations import document
from scenarios.mutations.run import Bench, Result, Store, all_scenarios
from scenarios.mutations.table import ROOT, Mutation, MutationError, choose, load

OUT = ROOT / "out" / "mutations"
# Tracked: a table of hours is run in pieces, on several machines.
RESULTS = ROOT / "fixtures" / "mutation-results.json"
DOCUMENT = ROOT / "docs" / "mutations.md"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    arch: Annotated[Arch, typer.Option(help="Architecture of the machines.")] = Arch.AARCH64,
    word: Annotated[
        list[str] | None, typer.Option("-k", help="Mutations whose name contains this.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Check the table, run nothing.")] = False,
    listing: Annotated[bool, typer.Option("--list", help="Name the mutations.")] = False,
    run: Annotated[bool, typer.Option(help="Run; --no-run only writes the document.")] = True,
) -> None:
    """Run mutations, judge the scenarios that must notice them, renew docs/mutations.md."""
    mutations = load()
    chosen = choose(mutations, word or [])
    if listing:
        for mutation in chosen:
            print(f"{mutation.name}: {mutation.promise}")
        return
    scenarios = all_scenarios()
    _require_sound(mutations, scenarios)
    store = Store(RESULTS)
    if check:
        _require_caught(mutations, store.results())
        _require_current(document.render(mutations, store.results(), scenarios))
        print(f"{len(mutations)} mutations fit; each of {len(scenarios)} scenarios has one")
        return
    try:
        results = _run(chosen, Bench(arch, OUT), store) if run else []
    finally:
        DOCUMENT.write_text(document.render(mutations, store.results(), scenarios))
    if any(not result.caught for result in results):
        raise typer.Exit(1)


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


def _require_caught(mutations: Sequence[Mutation], results: Mapping[str, Result]) -> None:
    """No result shows a promise that nobody keeps watch over. Raises MutationError."""
    digests = {mutation.name: mutation.digest for mutation in mutations}
    where = RESULTS.relative_to(ROOT)
    if gone := sorted(results.keys() - digests.keys()):
        raise MutationError(
            f"{where} has results of {', '.join(gone)}, which are no mutations", hint="remove them"
        )
    survived = [n for n, r in results.items() if r.digest == digests[n] and not r.caught]
    if survived:
        raise MutationError(
            f"{where}: nobody noticed {', '.join(survived)}",
            hint="sharpen the scenario or the mutation, and run it again",
        )


def _require_current(text: str) -> None:
    """The document says what the results are. Raises MutationError."""
    if not DOCUMENT.exists() or DOCUMENT.read_text() != text:
        raise MutationError(
            f"{DOCUMENT.relative_to(ROOT)} is not what {RESULTS.relative_to(ROOT)} says",
            hint="./noxw -s mutate -- --no-run renews it",
        )


def _require_fit(mutation: Mutation, copy: Path) -> None:
    for name in {edit.file for edit in mutation.edit}:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).exists():
            (copy / name).write_bytes((ROOT / name).read_bytes())
    for edit in mutation.edit:
        edit.apply(copy)


def _run(chosen: Sequence[Mutation], bench: Bench, store: Store) -> list[Result]:
    results = []
    began = time.monotonic()
    for result in bench.run(chosen):
        if result.ran:
            store.add(result)
        results.append(result)
        print(f"[{len(results)}/{len(chosen)}] {result.name} ({result.arch})", flush=True)
        for outcome in result.outcomes:
            mark = "caught" if outcome.caught else "NOT CAUGHT"
            print(f"    {mark}: {outcome.scenario}: {outcome.how[:240]}", flush=True)
        print(f"    after {time.monotonic() - began:.0f} s", flush=True)
    table = Table("mutation", "scenario", "outcome", "seconds")
    for result in results:
        for outcome in result.outcomes:
            verdict = "caught" if outcome.caught else f"NOT CAUGHT: {outcome.how}"
            table.add_row(result.name, outcome.scenario, verdict, f"{outcome.seconds:.0f}")
    Console().print(table)
    if failed := [result.name for result in results if not result.caught]:
        print(f"not caught: {', '.join(failed)}; evidence lies under {OUT}")
    return results


def entry() -> int:
    """Errors become two lines and an exit status."""
    # Ended from outside, it still ends pytest and removes the copy.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        app()
    except KubesoloError as error:
        print(f"error: {error}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(entry())
