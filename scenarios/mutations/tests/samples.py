"""A checkout to change, and results of its whole table."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from scenarios.mutations.digests import Sources
from scenarios.mutations.freshness import Standing, standings
from scenarios.mutations.results import Control, Outcome, Result
from scenarios.mutations.table import ROOT, Case, Mutation

MEASURED = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


def copy_sources(folder: Path, mutations: Sequence[Mutation]) -> Path:
    """What results are measured on, in a checkout of its own."""
    shutil.copytree(ROOT / "scenarios", folder / "scenarios")
    for name in ("manifests", "overlays"):
        shutil.copytree(ROOT / "fixtures" / name, folder / "fixtures" / name, symlinks=True)
    plugin = "harness/pytest_plugin/fixtures.py"
    for name in {
        "conftest.py",
        plugin,
        *(name for mutation in mutations for name in mutation.files),
    }:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    return folder


def result_of(
    mutation: Mutation,
    case: Case,
    sources: Sources,
    *,
    outcome: Outcome = Outcome.FAILED,
    how: str = "",
    measured_at: datetime = MEASURED,
) -> Result:
    """A result of ``case`` as it is in ``sources``."""
    return Result(
        mutation=case.mutation,
        scenario=case.scenario,
        arch=case.arch,
        outcome=outcome,
        how=how,
        seconds=30.0,
        measured_at=measured_at,
        commit="0123456789ab",
        digests=sources.digests(mutation, case.scenario),
        control=Control(seconds=25.0, measured_at=measured_at),
    )


def all_results(mutations: Sequence[Mutation], root: Path) -> dict[Case, Result]:
    """A result of every case that is needed."""
    sources = Sources(root)
    return {
        case: result_of(mutation, case, sources)
        for mutation in mutations
        for case in mutation.cases
    }


def replace(file: Path, old: str, new: str) -> None:
    """Change a file, in which ``old`` must stand once."""
    text = file.read_text()
    assert text.count(old) == 1, (file, old, text.count(old))
    file.write_text(text.replace(old, new))


def stale_after(
    mutations: Sequence[Mutation], results: dict[Case, Result], root: Path
) -> list[Standing]:
    """What has become stale."""
    return [
        standing for standing in standings(mutations, results, Sources(root)) if standing.changed
    ]
