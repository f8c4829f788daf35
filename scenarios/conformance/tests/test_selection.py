"""Which conformance tests are taken."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scenarios.conformance.selection import (
    LeftOut,
    SelectionError,
    areas,
    expression,
    load_left_out,
    select,
    spread,
)

NAMES = [
    "[sig-node] Pods should be submitted [Conformance]",
    "[sig-node] Pods should be removed [Conformance]",
    "[sig-node] Probes should (quickly) answer [Conformance]",
    "[sig-apps] Job should run to 100% [Conformance]",
    "[sig-network] DNS should resolve [Serial] [Conformance]",
]


def test_all_are_taken_that_are_not_left_out() -> None:
    found = select(NAMES, [LeftOut(pattern=r"\[Serial\]", reason="one at a time")])
    assert found.chosen == tuple(NAMES[:4])
    assert found.left_out == {NAMES[4]: "one at a time"}


def test_the_first_reason_counts() -> None:
    rows = [LeftOut(pattern="Pods", reason="first"), LeftOut(pattern="removed", reason="second")]
    assert select(NAMES, rows).left_out == {NAMES[0]: "first", NAMES[1]: "first"}


def test_a_focus_narrows_what_is_taken() -> None:
    assert select(NAMES, (), focus=r"sig-node\].*(submitted|answer)").chosen == (NAMES[0], NAMES[2])


def test_what_has_passed_is_not_taken_again() -> None:
    found = select(NAMES, (), focus="sig-node", passed=frozenset({NAMES[0], NAMES[1]}))
    assert found.chosen == (NAMES[2],)
    assert select(NAMES, (), passed=frozenset(NAMES)).chosen == ()


def test_a_pattern_that_fits_no_test_is_an_error() -> None:
    with pytest.raises(SelectionError, match=r"no conformance test fits the pattern 'Windows'"):
        select(NAMES, [LeftOut(pattern="Windows", reason="none here")])


@pytest.mark.parametrize(
    ("focus", "words"),
    [
        ("nowhere", "'nowhere' is found in no name of the 5 conformance tests"),
        ("(", r"'\(' is no regular expression: missing \), unterminated subpattern"),
        ("DNS", "all 1 tests that --focus 'DNS' is found in are left out: it is slow"),
    ],
)
def test_a_focus_that_leaves_nothing_is_an_error(focus: str, words: str) -> None:
    with pytest.raises(SelectionError, match=words):
        select(NAMES, [LeftOut(pattern="DNS", reason="it is slow")], focus=focus)


def test_a_limit_is_spread_over_the_areas_by_their_size() -> None:
    names = [f"[sig-a] {n:02}" for n in range(60)] + [f"[sig-b] {n:02}" for n in range(30)]
    found = spread(names, 9)
    assert [name[1:6] for name in found] == ["sig-a"] * 6 + ["sig-b"] * 3
    assert found == spread(names[::-1], 9)[::-1]
    assert spread(names, 1000) == names


def test_a_resumed_limit_is_of_the_same_tests() -> None:
    limited = select(NAMES, (), limit=2).chosen
    assert select(NAMES, (), limit=2, passed=frozenset(limited[:1])).chosen == limited[1:]


def test_areas_begin_with_the_largest() -> None:
    assert areas([*NAMES, "without one"]) == ["sig-node", "sig-apps", "sig-network", "other"]


def test_an_expression_finds_exactly_its_tests() -> None:
    # What Go's and Python's expressions have in common.
    found = re.compile(expression(NAMES[:3]))
    assert [name for name in NAMES if found.search(f"Kubernetes e2e suite {name}")] == NAMES[:3]
    assert not found.search(f"{NAMES[0]} and more")
    assert r"\ " not in found.pattern


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("left_out = 3", "left_out: "),
        ('[[left_out]]\npattern = "x"', "left_out.0.reason: Field required"),
        ('[[left_out]]\npattern = "("\nreason = "y"', "missing"),
        ("[[", "Invalid|Expected"),
        ('[[left_out]]\npattern = "x"\nreason = "y"\nwhy = 1', "left_out.0.why: Extra inputs"),
    ],
)
def test_a_bad_file_is_one_error(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "conformance.toml"
    path.write_text(text)
    with pytest.raises(SelectionError, match=rf"conformance\.toml: .*({words})"):
        load_left_out(path)


def test_a_missing_file_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(SelectionError, match="No such file"):
        load_left_out(tmp_path / "none.toml")
