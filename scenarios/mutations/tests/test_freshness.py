"""A result counts only for what it was measured on."""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path

import pytest

from product.image.recipe import Arch
from scenarios.mutate import report, require_all_fresh, require_kept
from scenarios.mutations.digests import Sources
from scenarios.mutations.freshness import (
    Job,
    State,
    count,
    jobs,
    require_judged_on,
    standings,
    to_renew,
)
from scenarios.mutations.results import Result
from scenarios.mutations.table import ROOT, Case, Edit, Mutation, MutationError, load
from scenarios.mutations.tests.samples import (
    MEASURED,
    all_results,
    copy_sources,
    replace,
    result_of,
    stale_after,
)

MUTATIONS = load()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return copy_sources(tmp_path, MUTATIONS)


@pytest.fixture(scope="module")
def results() -> dict[Case, Result]:
    """Of the checkout that ``root`` is a copy of."""
    return all_results(MUTATIONS, ROOT)


def test_nothing_is_stale_where_nothing_changed(root: Path, results: dict[Case, Result]) -> None:
    found = standings(MUTATIONS, results, Sources(root))
    assert count(found) == {State.FRESH: len(results), State.STALE: 0, State.MISSING: 0}
    require_all_fresh(found)


def test_a_scenarios_body_replaced_by_pass_is_shown(
    root: Path, results: dict[Case, Result]
) -> None:
    file = root / "scenarios/rollback/test_failed_boots.py"
    text = file.read_text()
    head, _, rest = text.partition(
        "def test_kernel_panic(node: Node, releases: Releases, begin_after: Begin) -> None:\n"
    )
    _, _, after = rest.partition("\n\n\n")
    file.write_text(
        f"{head}def test_kernel_panic(node: Node, releases: Releases, begin_after: Begin) -> None:"
        f"\n    pass\n\n\n{after}"
    )
    found = standings(MUTATIONS, results, Sources(root))
    stale = [standing for standing in found if standing.state is State.STALE]
    assert {standing.case.scenario for standing in stale} == {
        "rollback/test_failed_boots.py::test_kernel_panic"
    }
    assert all("scenario" in standing.changed for standing in stale)
    lines = "\n".join(report(found))
    assert f"{len(stale)} stale" in lines
    assert "test_kernel_panic (x86_64): stale, " in lines
    assert "days old, changed since: scenario" in lines
    with pytest.raises(MutationError, match="a release needs every result fresh"):
        require_all_fresh(found)


def test_deleted_results_are_shown(root: Path, results: dict[Case, Result]) -> None:
    kept = dict(sorted(results.items())[40:])
    found = standings(MUTATIONS, kept, Sources(root))
    assert count(found) == {State.FRESH: len(kept), State.STALE: 0, State.MISSING: 40}
    lines = report(found)
    assert "40 missing" in lines[0]
    assert sum(line.endswith(": missing") for line in lines) == 10
    assert lines[-1].startswith("  and 30 more are missing: ")
    with pytest.raises(MutationError, match="40 missing"):
        require_all_fresh(found)


def test_comments_docstrings_layout_and_tier_change_nothing(
    root: Path, results: dict[Case, Result]
) -> None:
    file = root / "scenarios/rollback/test_failed_boots.py"
    replace(
        file,
        '    """Reboot into the armed slot and watch three tries, each for these causes, and the '
        'return."""\n',
        "",
    )
    replace(
        file, '    assert boots.rollbacks == ["A"]\n', "    assert (boots.rollbacks==['A']) # x\n"
    )
    replace(
        file,
        '@scenario(tier="core", core_arch="x86_64")\ndef test_kernel_panic',
        "@scenario()\ndef test_kernel_panic",
    )
    assert stale_after(MUTATIONS, results, root) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "what", "those"),
    [
        # A helper beside the scenario.
        (
            "scenarios/rollback/test_failed_boots.py",
            "assert boots.counters[:3] == [2, 1, 0]",
            "assert boots.counters",
            "scenario",
            {"rollback/test_failed_boots.py::test_kernel_panic"},
        ),
        # A parameter's table, named by a decorator alone.
        (
            "scenarios/boot/test_environment.py",
            '"missing": Damage("rm $env"',
            '"missing": Damage("true"',
            "scenario",
            {"boot/test_environment.py::test_a_damaged_environment_still_boots[empty]"},
        ),
        # The machine that the whole module asks for.
        (
            "scenarios/k8s/test_ready.py",
            "pytestmark = pytest.mark.machine(**MACHINE)",
            "pytestmark = pytest.mark.machine(cpus=1, **MACHINE)",
            "scenario",
            {"k8s/test_ready.py::test_the_node_is_ready"},
        ),
        # A method of a step's class.
        (
            "scenarios/steps.py",
            'assert after[active] == before[active], "the active slot was touched"',
            "assert after",
            "steps",
            {"security/test_refused.py::test_wrong_key"},
        ),
        # What that one calls.
        (
            "scenarios/steps.py",
            'lines = node.succeed(f"sync; cat',
            'lines = node.succeed(f"cat',
            "steps",
            {"security/test_refused.py::test_wrong_key"},
        ),
        # A function of a module that another module of steps uses as a module.
        (
            "scenarios/kubectl.py",
            "if done.exit != 0:",
            "if False:",
            "steps",
            {"k8s/test_power_cuts.py::test_cut_while_kubernetes_starts_and_under_load"},
        ),
        # A fixture, one of all scenarios and one of a folder.
        (
            "scenarios/conftest.py",
            "server = webserver(release.repository)\n        offer(",
            "server = webserver(Path())\n        offer(",
            "steps",
            {"update/test_switch.py::test_two_updates_switch_to_the_other_slot_and_back"},
        ),
        (
            "scenarios/k8s/conftest.py",
            "recipe=RECIPE",
            "recipe=Path()",
            "steps",
            {"k8s/test_ready.py::test_the_node_is_ready"},
        ),
        # What a release is broken with, and what a cluster is told to run.
        (
            "fixtures/manifests/nginx.yaml",
            "kind: Service",
            "kind: Nothing",
            "steps",
            {"k8s/test_ready.py::test_a_workload_is_served_through_its_service"},
        ),
    ],
)
def test_what_a_scenario_uses_counts(
    root: Path,
    results: dict[Case, Result],
    file: str,
    old: str,
    new: str,
    what: str,
    those: set[str],
) -> None:
    replace(root / file, old, new)
    stale = stale_after(MUTATIONS, results, root)
    assert those <= {standing.case.scenario for standing in stale}
    assert all(standing.changed == (what,) for standing in stale if standing.case.scenario in those)
    # What does not use it stays fresh.
    assert len(stale) < len(results) / 1.2


def test_a_method_that_nobody_calls_does_not_count(root: Path, results: dict[Case, Result]) -> None:
    replace(
        root / "scenarios/kubernetes.py",
        "    def delete(self, manifest: str) -> None:",
        "    def unused(self) -> int:\n        return 1\n\n"
        "    def delete(self, manifest: str) -> None:",
    )
    assert stale_after(MUTATIONS, results, root) == []


def test_the_edited_file_counts_and_its_comments_only_outside_python(
    root: Path, results: dict[Case, Result]
) -> None:
    with (root / "product/agent/update/gates.py").open("a") as file:
        file.write("# A remark.\n")
    assert stale_after(MUTATIONS, results, root) == []
    with (root / "images/boot/grub.cfg").open("a") as file:
        file.write("# A remark.\n")
    stale = stale_after(MUTATIONS, results, root)
    assert {standing.changed for standing in stale} == {("files",)}
    assert {s.case for s in stale} == {
        case for m in MUTATIONS if "images/boot/grub.cfg" in m.files for case in m.cases
    }


def test_the_edit_counts_and_what_must_notice_it_does_not(root: Path) -> None:
    mutation = MUTATIONS[0]
    [case, *_] = mutation.cases
    results = {case: result_of(mutation, case, Sources(root))}
    judged = mutation.model_copy(update={"noticed_by": "another", "promise": "another"})
    edit = Edit(file=mutation.files[0], old="x", new="y")
    edited = mutation.model_copy(update={"edit": (edit,)})
    sources = Sources(root)
    assert standings([judged], results, sources)[0].changed == ()
    assert standings([edited], results, sources)[0].changed == ("edit",)


def test_results_that_belong_to_nothing_are_an_error(
    root: Path, results: dict[Case, Result]
) -> None:
    found = standings(MUTATIONS[1:], results, Sources(root))
    with pytest.raises(MutationError, match=r"belong to nothing: .*grub-does-not-count"):
        require_kept(results, found)


def test_missing_results_are_renewed_first_and_then_the_oldest(root: Path) -> None:
    sources = Sources(root)
    chosen = MUTATIONS[:4]
    cases = [case for mutation in chosen for case in mutation.cases]
    of = {mutation.name: mutation for mutation in chosen}
    ages = dict(zip(cases, random.Random(1).sample(range(100), len(cases)), strict=True))
    results = {
        case: result_of(
            of[case.mutation], case, sources, measured_at=MEASURED - timedelta(days=age)
        )
        for case, age in ages.items()
    }
    missing = cases[-1]
    del results[missing]
    fresh = cases[0]
    with (root / "images/boot/grub.cfg").open("a") as file:
        file.write("# A remark.\n")
    results[fresh] = result_of(of[fresh.mutation], fresh, Sources(root))
    found = to_renew(standings(chosen, results, Sources(root)))
    stale = [case for case in cases if "images/boot/grub.cfg" in of[case.mutation].files]
    oldest_first = sorted(set(stale) - {missing, fresh}, key=lambda case: -ages[case])
    assert [standing.case for standing in found] == [missing, *oldest_first]
    first = jobs(found)[0]
    assert (first.mutation, first.arch) == (of[missing.mutation], missing.arch)
    assert first.scenarios[0] == missing.scenario


def test_a_job_is_a_mutation_on_one_architecture(root: Path) -> None:
    [first, *_] = MUTATIONS
    found = standings([first], {}, Sources(root))
    assert jobs(found) == [Job(first, arch.value, first.scenarios) for arch in Arch]
    assert jobs(found, arch="aarch64") == [Job(first, "aarch64", first.scenarios)]


def test_an_architecture_that_nothing_is_judged_on_is_refused(root: Path) -> None:
    [first, *_] = MUTATIONS
    found = [s for s in standings([first], {}, Sources(root)) if s.case.arch == "aarch64"]
    require_judged_on(found, "aarch64")
    with pytest.raises(MutationError, match="judged on x86_64, but on aarch64"):
        require_judged_on(found, "x86_64")


def test_the_age_is_in_words(root: Path) -> None:
    mutation: Mutation = MUTATIONS[0]
    [case, *_] = mutation.cases
    how = "assert boots.counters == [2, 1]: assert [3, 3] == [2, 1]"
    found = standings(
        [mutation], {case: result_of(mutation, case, Sources(root), how=how)}, Sources(root)
    )
    assert found[0].describe(MEASURED + timedelta(days=12, hours=3)) == "fresh, 12 days old"
    assert found[1].describe(MEASURED) == "missing"
