"""``mutate --check``, as CI runs it, on a checkout whose every result is fresh."""

from __future__ import annotations

from pathlib import Path

import pytest

from scenarios import mutate
from scenarios.mutations import document
from scenarios.mutations.digests import Sources
from scenarios.mutations.freshness import standings
from scenarios.mutations.results import Outcome, Store
from scenarios.mutations.table import Case, MutationError, choose, load
from scenarios.mutations.tests.samples import copy_sources, replace, result_of

# Two scenarios, on both architectures; what they said.
MUTATIONS = tuple(choose(load(), ["grub-does-not-count"]))
[MUTATION] = MUTATIONS
HOW = "assert boots.counters == [2, 1]: assert [3, 3] == [2, 1]"


class Checkout:
    """The files that ``--check`` reads."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = Store(root / "results.json")
        self.document = root / "mutations.md"

    def write_document(self) -> None:
        found = standings(MUTATIONS, self.store.results(), Sources(self.root))
        self.document.write_text(document.render(MUTATIONS, found, MUTATION.scenarios))

    def check(self, *, require_fresh: bool = False) -> None:
        mutate.main(check=True, require_fresh=require_fresh, listing=False, stale=False)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    made = Checkout(copy_sources(tmp_path, MUTATIONS))
    for case in MUTATION.cases:
        made.store.add(result_of(MUTATION, case, Sources(), how=HOW))
    made.write_document()
    monkeypatch.setattr(mutate, "load", lambda: MUTATIONS)
    monkeypatch.setattr(mutate, "all_scenarios", lambda: list(MUTATION.scenarios))
    monkeypatch.setattr(mutate, "ROOT", made.root)
    monkeypatch.setattr(mutate, "RESULTS", made.root / "results.json")
    monkeypatch.setattr(mutate, "DOCUMENT", made.document)
    monkeypatch.setattr(mutate, "Sources", lambda: Sources(made.root))
    return made


def test_fresh_results_are_counted(checkout: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    checkout.check(require_fresh=True)
    assert "4 results are needed: 4 fresh, 0 stale, 0 missing" in capsys.readouterr().out


def test_a_body_replaced_by_pass_is_shown_and_no_release(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    file = checkout.root / "scenarios/update/test_switch.py"
    head, _, _ = file.read_text().partition("def test_two_updates_")
    file.write_text(f"{head}def test_two_updates_switch_to_the_other_slot_and_back():\n    pass\n")
    with pytest.raises(MutationError, match=r"mutations\.md is not what results\.json says"):
        checkout.check()
    checkout.write_document()
    capsys.readouterr()
    checkout.check()
    said = capsys.readouterr().out
    assert "2 fresh, 2 stale, 0 missing" in said
    assert "test_two_updates_switch_to_the_other_slot_and_back (aarch64): stale, " in said
    with pytest.raises(MutationError, match="a release needs every result fresh"):
        checkout.check(require_fresh=True)


def test_deleted_results_are_shown_and_no_release(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(checkout.store.keep(MUTATION.cases[:1])) == 3
    checkout.write_document()
    checkout.check()
    said = capsys.readouterr().out
    assert "1 fresh, 0 stale, 3 missing" in said
    assert said.count("): missing") == 3
    with pytest.raises(MutationError, match="a release needs every result fresh"):
        checkout.check(require_fresh=True)


def test_results_that_belong_to_nothing_fail_until_they_are_removed(checkout: Checkout) -> None:
    other = Case("another-mutation", MUTATION.scenarios[0], "aarch64")
    checkout.store.add(result_of(MUTATION, other, Sources(), how=HOW))
    with pytest.raises(MutationError, match="belong to nothing: another-mutation"):
        checkout.check()
    mutate.main(check=False, require_fresh=False, listing=False, stale=False, run=False)
    checkout.check()


def test_what_nobody_noticed_fails(checkout: Checkout) -> None:
    survived = result_of(MUTATION, MUTATION.cases[0], Sources(), outcome=Outcome.SURVIVED)
    checkout.store.add(survived)
    checkout.write_document()
    with pytest.raises(MutationError, match="nobody noticed grub-does-not-count"):
        checkout.check()


def test_an_edit_that_no_longer_fits_fails(checkout: Checkout) -> None:
    replace(checkout.root / "images/boot/grub.cfg", MUTATION.edit[0].old, "")
    with pytest.raises(MutationError, match="holds the text to replace 0 times"):
        checkout.check()
