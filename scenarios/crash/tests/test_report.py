"""What a run leaves."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

from harness.crash.epochs import Cut
from scenarios.crash.boots import Booted
from scenarios.crash.judge import Example, Outcome, Tally
from scenarios.crash.oracle import Kind
from scenarios.crash.report import groups, rows, write


def _kind(env: str, slot: str) -> Kind:
    return Kind(slot, "0.2.0", env, "0.1.0", "0.1.0", "", "clean", "idle", "nothing")


def _outcome() -> Outcome:
    apply = Tally("apply & more", epochs=2, writes=9, cuts=120, states=100, seconds=1.5)
    apply.by_cut = Counter({"prefix": 10, "torn": 60, "reordered": 30})
    apply.kinds = Counter({_kind("A3+", "A"): 90, _kind("B3-", "B"): 9})
    apply.ambiguous = 1
    apply.faults = [("flush epoch 7", "two <answers>")]
    commit = Tally("commit", epochs=1, writes=1, cuts=4, states=3, seconds=0.5)
    commit.kinds = Counter({_kind("B0-", "A"): 2, _kind("B2+", "B"): 1})
    examples = [Example(kind, "apply & more", Cut(7, 1)) for kind in (*apply.kinds, *commit.kinds)]
    return Outcome([apply, commit], examples, {"esp": 3})


def test_groups_are_what_the_machine_starts_with() -> None:
    apply, commit = _outcome().tallies
    assert list(groups(apply).values()) == [90, 0, 9, 0, 1]
    assert list(groups(commit).values()) == [0, 1, 0, 2, 0]


def test_the_last_row_is_the_sum() -> None:
    last = rows(_outcome())[-1]
    assert last == ("all", "3", "10", "124", "103", "60", "30", "4", "0", "1", "2.0")


def test_all_files_are_whole(tmp_path: Path) -> None:
    outcome = _outcome()
    booted = [
        Booted(outcome.examples[0], ("A",), "ready"),
        Booted(outcome.examples[1], (), "", "no"),
    ]
    write(outcome, booted, {"states": 103}, "Cuts & states", tmp_path)
    found = json.loads((tmp_path / "crash.json").read_text())
    assert found["states"] == 103
    assert found["phases"][0]["faults"] == [{"cut": "flush epoch 7", "what": "two <answers>"}]
    assert [boot["problem"] for boot in found["boots"]] == ["", "no"]
    text = (tmp_path / "crash.md").read_text()
    assert "| apply & more | 2 | 9 | 120 | 100 |" in text
    assert "as foretold" in text
    picture = ElementTree.parse(tmp_path / "crash.svg").getroot()
    words = "".join(picture.itertext())
    assert "100 states, 1 bad" in words
    assert "apply & more" in words
