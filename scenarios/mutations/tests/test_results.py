"""What counts as a catch, and where results are kept."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from scenarios.mutate import require_caught
from scenarios.mutations import document
from scenarios.mutations.digests import Sources
from scenarios.mutations.freshness import standings
from scenarios.mutations.results import Outcome, Store
from scenarios.mutations.table import Mutation, MutationError, load
from scenarios.mutations.tests.samples import MEASURED, result_of

MUTATIONS = {mutation.name: mutation for mutation in load()}
COUNTS = MUTATIONS["grub-does-not-count"]
CASE = COUNTS.cases[0]
HOW = "assert boots.counters == [2, 1]: assert [3, 3] == [2, 1]"
GRUB = "ready = node.wait_ready(): waited 0.6 s for it: GRUB: error: file '/vmlinuz' not found."


@pytest.mark.parametrize(
    ("outcome", "how", "caught", "verdict"),
    [
        (Outcome.FAILED, HOW, True, HOW),
        (Outcome.FAILED, GRUB, False, f"failed for another reason: {GRUB}"),
        (Outcome.ELSEWHERE, HOW, False, f"failed for another reason: {HOW}"),
        (Outcome.SURVIVED, "", False, "survived: the scenario passed"),
    ],
)
def test_only_the_named_demand_is_a_catch(
    outcome: Outcome, how: str, caught: bool, verdict: str
) -> None:
    result = result_of(COUNTS, CASE, Sources(), outcome=outcome, how=how)
    assert (result.caught_by(COUNTS), result.verdict(COUNTS)) == (caught, verdict)
    found = standings([COUNTS], {CASE: result}, Sources())
    if caught:
        require_caught(found)
    else:
        with pytest.raises(MutationError, match="nobody noticed grub-does-not-count"):
            require_caught(found)


def test_what_is_caught_depends_on_the_demand_of_today() -> None:
    result = result_of(COUNTS, CASE, Sources(), how=HOW)
    assert not result.caught_by(COUNTS.model_copy(update={"noticed_by": "another demand"}))


@pytest.mark.parametrize("mutation", MUTATIONS.values(), ids=MUTATIONS)
def test_no_demand_is_met_by_an_error_of_grub_or_of_nothing(mutation: Mutation) -> None:
    for scenario in mutation.scenarios:
        demand = mutation.demand(scenario)
        for how in (GRUB, "", "assert False: assert False", "node.at(State.READY): nothing within"):
            assert not demand.search(how)


def test_results_are_kept_one_by_one(tmp_path: Path) -> None:
    store = Store(tmp_path / "results.json")
    assert store.results() == {}
    first, second = (result_of(COUNTS, case, Sources(), how=HOW) for case in COUNTS.cases[:2])
    store.add(second)
    store.add(first)
    again = first.model_copy(update={"measured_at": MEASURED + timedelta(days=1)})
    store.add(again)
    assert store.results() == {first.case: again, second.case: second}
    assert store.keep([first.case]) == [second.case]
    assert store.results() == {first.case: again}


@pytest.mark.parametrize("text", ["", "[]", '{"grub-does-not-count": {}}', '{"version": 1}'])
def test_a_file_of_another_format_is_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(MutationError, match="cannot be read"):
        Store(path).results()


def test_the_document_says_what_is_stale_and_missing_and_names_days() -> None:
    fresh = result_of(COUNTS, COUNTS.cases[0], Sources(), how=HOW)
    digests = fresh.digests.model_copy(update={"steps": "another"})
    stale = result_of(COUNTS, COUNTS.cases[1], Sources(), how=GRUB)
    stale = stale.model_copy(update={"digests": digests.model_copy(update={"files": "another"})})
    results = {fresh.case: fresh, stale.case: stale}
    text = document.render(
        [COUNTS], standings([COUNTS], results, Sources()), list(COUNTS.scenarios)
    )
    assert "Of 4 results that a release needs 1 are fresh, 1 stale and 2 missing." in text
    rows = [line for line in text.splitlines() if line.startswith("| `power_cut/")]
    assert rows[0].startswith(
        f"| `{COUNTS.scenarios[0]}` | x86_64 | 2026-05-01 | `assert boots.counters == [2, 1]: "
    )
    rows = [line for line in text.splitlines() if line.startswith("| `update/")]
    assert "| 2026-05-01, stale: files, scenario, steps changed | **NOT CAUGHT**: " in rows[0]
    assert rows[1].endswith("| aarch64 | missing | | |")
