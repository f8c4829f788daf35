"""What runs leave in the history, and what the report makes of it."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from harness.report import history
from harness.report.data import read_run, read_scenarios
from harness.report.history import (
    FASTER,
    HISTORY_FILE,
    NOW_FAILS,
    NOW_PASSES,
    SLOWER,
    Record,
    Result,
    append,
    changes,
    read_history,
    unsteady,
    with_run,
)
from harness.report.html import write_report
from harness.report.tests.test_report import Page, begun, evidence
from harness.report.trend import Trend

TEST = "scenarios/test_x.py::test_one[x86_64]"


def record(number: int, outcome: str = "passed", seconds: float = 20.0) -> Record:
    return Record(
        id=f"run-{number}",
        commit=f"{number:040x}",
        started=f"2026-01-{number % 28 + 1:02}T00:00:00+00:00",
        tier="core",
        scenarios={TEST: Result(outcome, seconds)},
    )


def kinds(records: list[Record]) -> list[str]:
    return [one.kind for one in changes(records)]


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / HISTORY_FILE
    records = [record(1), record(2, "failed"), record(3, "incomplete")]
    for one in records:
        append(path, one)
    assert read_history(path) == records
    assert [one.name for one in path.parent.iterdir()] == [HISTORY_FILE]


def test_the_oldest_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "KEPT", 3)
    path = tmp_path / HISTORY_FILE
    for number in range(5):
        append(path, record(number))
    assert [one.id for one in read_history(path)] == ["run-2", "run-3", "run-4"]


def test_a_run_is_there_once(tmp_path: Path) -> None:
    path = tmp_path / HISTORY_FILE
    for one in (record(1), record(2), record(1, "failed")):
        append(path, one)
    assert [one.id for one in read_history(path)] == ["run-2", "run-1"]


def test_damaged_lines_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / HISTORY_FILE
    whole = record(1).line
    damaged = [whole[: len(whole) // 2] + "\n", "[]\n", "\x00\n", '{"schema": 2}\n', "\n"]
    path.write_text("".join([*damaged, whole]))
    assert read_history(path) == [record(1)]
    append(path, record(2))
    assert [one.id for one in read_history(path)] == ["run-1", "run-2"]


def test_runs_that_end_at_once_are_all_there(tmp_path: Path) -> None:
    path = tmp_path / HISTORY_FILE
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: append(path, record(number)), range(16)))
    assert len(read_history(path)) == 16


def test_verdicts_that_changed() -> None:
    good, bad = record(1), record(2, "failed")
    assert kinds([good]) == kinds([good, record(2)]) == kinds([bad, record(3, "failed")]) == []
    assert kinds([good, bad]) == [NOW_FAILS]
    assert kinds([good, record(2, "incomplete")]) == [NOW_FAILS]
    assert kinds([good, bad, record(3)]) == [NOW_PASSES]
    (change,) = changes([good, bad])
    assert change.why == "passed in run run-1, commit 000000000000"


@pytest.mark.parametrize(
    ("times", "kind"),
    [
        ([20, 21, 22, 31.5], SLOWER),  # 1.5 times the median
        ([20, 21, 22, 31], ""),
        ([20, 21, 22, 14], FASTER),
        ([2, 2, 2, 6], ""),  # less than 5 s
        ([20, 20, 60], ""),  # too few to call anything usual
        ([20, 20, 60, 20], ""),  # one slow run makes nothing usual
    ],
)
def test_durations_that_changed(times: list[float], kind: str) -> None:
    records = [record(number, seconds=seconds) for number, seconds in enumerate(times)]
    assert kinds(records) == [kind] * bool(kind)


def test_another_backend_is_no_earlier_run() -> None:
    board = record(4)
    board = dataclasses.replace(board, scenarios={TEST: Result("failed", 90.0, "lab")})
    assert kinds([record(1), record(2), record(3), board]) == []


def test_verdicts_that_come_and_go() -> None:
    outcomes = ["passed", "failed", "incomplete", "passed", "failed"]
    records = [record(number, outcome) for number, outcome in enumerate(outcomes)]
    assert unsteady(records) == {TEST: 3}
    assert unsteady(records[:3]) == {}


def test_the_report_is_about_its_own_run() -> None:
    records = [record(number) for number in range(30)]
    assert [one.id for one in with_run(records, record(40))][-2:] == ["run-29", "run-40"]
    assert len(with_run(records, record(40))) == history.SHOWN
    assert [one.id for one in with_run(records, record(2, "failed"))] == ["run-0", "run-1", "run-2"]
    assert with_run([], None) == []


def page(root: Path, *earlier: Record, **fields: Any) -> Page:
    directory = evidence(root, "one", **fields)
    (directory / "run").write_text(f"run-9\n{TEST}\n")
    begun(root, "run-9", TEST)
    for one in earlier:
        append(root / HISTORY_FILE, one)
    return Page(write_report(root, root / "report.html"))


def test_one_run_has_no_trend_yet(tmp_path: Path) -> None:
    made = page(tmp_path)
    assert "This is the first run of the history" in made.text
    assert "spark" not in made.source.partition("</style>")[2]


def test_a_regression_is_named_with_its_bars(tmp_path: Path) -> None:
    made = page(tmp_path, record(1), record(2), outcome="failed", failure="why")
    assert "Regressions: 1" in made.text
    assert f"now fails {TEST}: passed in run run-2" in made.text
    # Verdicts, seconds, and the scenario's own.
    assert made.source.count('<svg class="spark"') == 3
    assert [row["data-change"] for row in made.rows] == [NOW_FAILS]
    assert '<option value="now fails">' in made.source
    bare = made.source.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "")
    assert "http" not in bare


def test_bars_say_what_a_run_took() -> None:
    records = [record(1), record(2, "failed", 10.0)]
    drawn = Trend(records).scenario(TEST)
    assert 'class="passed" d="M3 22V0.0"' in drawn
    assert 'class="failed" d="M9 22V9.5"' in drawn
    assert "00000000: failed, 10.0 s" in drawn
    assert "<path" not in Trend(records).scenario("another")


def test_hostile_names_are_text(tmp_path: Path) -> None:
    evil = "scenarios/x.py::test_<script>alert(1)</script>"
    first = dataclasses.replace(record(1), scenarios={evil: Result("passed", 1.0)})
    last = dataclasses.replace(record(2), scenarios={evil: Result("failed", 1.0)})
    text = "".join(Trend([first, last]).section()) + Trend([first, last]).scenario(evil)
    assert "<script>" not in text


def test_a_record_is_of_the_evidence(tmp_path: Path) -> None:
    page(tmp_path)
    run = read_run(tmp_path)
    assert run is not None
    made = Record.of(run, read_scenarios(tmp_path))
    # 80 s, of which 3 s for a snapshot and 0.9 s of waiting.
    assert made.scenarios == {TEST: Result("passed", 76.1)}
    assert (made.passed, made.seconds) == (1, 76.1)
