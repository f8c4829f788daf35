"""The order of a run: copies, controls, results."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from product.image.cache import Cache
from product.image.recipe import Arch
from scenarios.mutations import run
from scenarios.mutations.copies import Workspace
from scenarios.mutations.freshness import Job
from scenarios.mutations.results import Outcome, Result
from scenarios.mutations.run import Bench, Ran
from scenarios.mutations.table import Edit, Mutation, MutationError, load

MUTATIONS = {mutation.name: mutation for mutation in load()}
COUNTS = MUTATIONS["grub-does-not-count"]
FLUSH = MUTATIONS["try-not-flushed"]
CUTS, SWITCH = COUNTS.scenarios
Outcomes = dict[str, dict[str, Any]]


class FakeCopies:
    """Copies without a file in them; those of ``broken`` cannot be built."""

    def __init__(self, folder: Path, broken: Sequence[Edit] = ()) -> None:
        self.folder = folder
        self.broken = broken
        self.removed: list[str] = []
        self.count = 0

    def make(self, origin: Path, arch: Arch, edits: Sequence[Edit]) -> Workspace:
        self.count += 1
        kind = "mutated" if edits else "unmutated"
        folder = self.folder / f"{self.count}-{kind}"
        (folder / "checkout").mkdir(parents=True)
        end = ExitStack()
        end.callback(self.removed.append, folder.name)
        if edits and tuple(edits) == tuple(self.broken):
            end.close()
            raise MutationError("it does not build")
        return Workspace(folder, folder / "checkout", folder / "cache", arch, end)

    def images(self, workspace: Workspace, recipe: Path) -> None:
        pass


class FakeBench(Bench):
    """Says what pytest would have written down."""

    def __init__(self, tmp_path: Path, outcomes: Outcomes, broken: Sequence[Edit] = ()) -> None:
        super().__init__(tmp_path / "evidence")
        self._cache = Cache(tmp_path / "cache")
        self.copies = FakeCopies(tmp_path / "copies", broken)
        self._copies = self.copies  # type: ignore[assignment]
        self.asked: list[tuple[str, tuple[str, ...]]] = []
        self._outcomes = outcomes

    def _pytest(self, scenarios: Sequence[str], workspace: Workspace) -> list[dict[str, object]]:
        kind = workspace.folder.name.partition("-")[2]
        self.asked.append((kind, tuple(scenarios)))
        usual = {"outcome": "passed"} if kind == "unmutated" else failed("own: wrong")
        return [
            {"scenario": name, "when": "call", "seconds": 1.0}
            | self._outcomes.get(f"{kind} {name}", usual)
            for name in scenarios
        ]

    def all(self, *jobs: Job, until: float | None = None) -> list[Ran]:
        return list(self.run(jobs, lambda result: bool(result.how), until=until))


def failed(error: str, verdict: str = "scenario") -> dict[str, Any]:
    return {"outcome": "failed", "verdict": verdict, "error": error}


def job(mutation: Mutation) -> Job:
    return Job(mutation, "aarch64", mutation.scenarios)


@pytest.fixture(autouse=True)
def no_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results are measured on the checkout itself."""
    monkeypatch.setattr(run, "copy_checkout", lambda target: None)
    monkeypatch.setattr(run, "Sources", lambda root: run_sources())


def run_sources() -> object:
    from scenarios.mutations.digests import Sources

    return Sources()


def test_each_scenario_passes_unmutated_once_before_it_counts(tmp_path: Path) -> None:
    bench = FakeBench(tmp_path, {})
    first, second = bench.all(job(COUNTS), job(FLUSH))
    assert bench.asked == [
        ("unmutated", (CUTS, SWITCH)),
        ("mutated", (CUTS, SWITCH)),
        ("mutated", (CUTS,)),
    ]
    assert [result.outcome for result in first.results] == [Outcome.FAILED] * 2
    assert first.results[0].control == second.results[0].control
    assert all(result.commit and result.measured_at.tzinfo for result in first.results)
    # One unmutated copy and one for each mutation, all of them removed.
    assert len(bench.copies.removed) >= bench.copies.count == 3


def test_a_scenario_that_fails_unmutated_is_not_judged(tmp_path: Path) -> None:
    bench = FakeBench(tmp_path, {f"unmutated {CUTS}": failed("assert it: no")})
    first, second = bench.all(job(COUNTS), job(FLUSH))
    assert bench.asked == [("unmutated", (CUTS, SWITCH)), ("mutated", (SWITCH,))]
    assert [result.scenario for result in first.results] == [SWITCH]
    why = "not judged: it does not pass on the unmutated product: assert it: no"
    assert first.not_judged == second.not_judged == {CUTS: why}
    assert second.results == ()


def test_outcomes_are_told_apart(tmp_path: Path) -> None:
    outcomes = {
        f"mutated {CUTS}": {"outcome": "passed"},
        f"mutated {SWITCH}": failed("begin(): no", "the state it begins in could not be reached"),
    }
    [ran] = FakeBench(tmp_path, outcomes).all(job(COUNTS))
    survived, elsewhere = ran.results
    assert (survived.outcome, survived.how) == (Outcome.SURVIVED, "")
    assert elsewhere.outcome is Outcome.ELSEWHERE
    assert elsewhere.how == "the state it begins in could not be reached: begin(): no"


def test_what_does_not_build_gives_no_result_and_the_next_goes_on(tmp_path: Path) -> None:
    first, second = FakeBench(tmp_path, {}, broken=COUNTS.edit).all(job(COUNTS), job(FLUSH))
    assert first.results == ()
    assert first.not_judged[CUTS] == "did not run: it does not build"
    assert len(second.results) == 1


def test_none_begins_after_the_limit(tmp_path: Path) -> None:
    bench = FakeBench(tmp_path, {})
    assert bench.all(job(COUNTS), job(FLUSH), until=time.monotonic()) == []
    assert bench.asked == []
    assert len(bench.copies.removed) >= bench.copies.count


def test_a_run_that_is_ended_keeps_its_results_and_removes_its_copies(tmp_path: Path) -> None:
    bench = FakeBench(tmp_path, {})
    kept: list[Result] = []
    running = bench.run([job(COUNTS), job(FLUSH)], lambda result: True, until=None)
    kept.extend(next(running).results)
    running.close()  # type: ignore[attr-defined]
    assert len(kept) == 2
    assert len(bench.copies.removed) >= bench.copies.count
