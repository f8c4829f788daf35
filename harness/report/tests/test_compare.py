"""Two whole runs in one report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.report.html import write_report
from harness.report.tests.test_report import TIMEOUT, Page, begun, evidence
from harness.report.tests.test_report_written import run


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    """This run's folder and the other's."""
    return tmp_path / "now", tmp_path / "before"


def both(runs: tuple[Path, Path], name: str, now: dict[str, Any], before: dict[str, Any]) -> None:
    for root, fields in zip(runs, (now, before), strict=True):
        evidence(root, name, **fields)


def against(runs: tuple[Path, Path]) -> Page:
    for root, name in zip(runs, ("second", "first"), strict=True):
        for directory in root.iterdir():
            if directory.is_dir():
                result = json.loads((directory / "result.json").read_bytes())
                (directory / "run").write_text(f"{name}\n{result['test']}\n")
        begun(root, name)
    now, before = runs
    return Page(write_report(now, now / "report.html", against=before))


def changed(page: Page) -> dict[str, str | None]:
    return {str(row["data-row"]).split("test_")[-1]: row["data-change"] for row in page.rows}


def test_equal_runs_have_no_difference(runs: tuple[Path, Path]) -> None:
    both(runs, "one", {}, {})
    page = against(runs)
    assert list(changed(page).values()) == [""]
    assert "1 scenario, 0 of them different." in page.text
    assert "The other run is first of commit c0ffee" in page.text


@pytest.mark.parametrize(
    ("now", "before", "kinds"),
    [
        ({"outcome": "failed", "failure": "why"}, {}, "now fails"),
        ({}, {"outcome": "failed", "failure": "why"}, "now passes"),
        (
            {"outcome": "failed", "failure": "an oops"},
            {"outcome": "failed", "failure": "a panic"},
            "fails otherwise",
        ),
        (
            {"outcome": "failed", "failure": "waited 62.7 s for a boot"},
            {"outcome": "failed", "failure": "waited 71 s for a boot"},
            "",
        ),
        ({"seconds": 200.0}, {}, "slower"),
        ({"seconds": 40.0}, {}, "faster"),
        ({"seconds": 90.0}, {}, ""),
        ({"seconds": 200.0, "turn_seconds": 120.9}, {}, ""),
        ({"timeline": "menu-timeout"}, {}, "other boots"),
        ({"seconds": 200.0, "timeline": "menu-timeout"}, {}, "other boots|slower"),
    ],
)
def test_what_is_different(
    runs: tuple[Path, Path], now: dict[str, Any], before: dict[str, Any], kinds: str
) -> None:
    both(runs, "one", now, before)
    page = against(runs)
    assert list(changed(page).values()) == [kinds]
    for kind in kinds.split("|") if kinds else ():
        assert f'<option value="{kind}">' in page.source


def test_both_durations_stand_side_by_side(runs: tuple[Path, Path]) -> None:
    both(runs, "one", {"seconds": 200.0}, {})
    text = against(runs).source
    assert 'data-label="other seconds">76.1</td>' in text
    assert 'data-label="seconds">196.1</td>' in text
    assert 'data-label="difference">+120.0</td>' in text


def test_timelines_lie_over_each_other(runs: tuple[Path, Path]) -> None:
    both(runs, "one", {}, {"timeline": "menu-timeout"})
    page = against(runs)
    assert page.source.count("both runs over each other") == 1
    picture = page.source.partition("both runs over each other")[2].partition("</svg>")[0]
    names = [name for name in ("other run", "this run") if f">{name}</text>" in picture]
    assert names == ["other run", "this run"]
    assert picture.index("other run<") < picture.index("this run<")


def test_what_one_run_alone_has_is_named(runs: tuple[Path, Path]) -> None:
    both(runs, "one", {}, {})
    evidence(runs[0], "new")
    evidence(runs[1], "gone")
    page = against(runs)
    assert changed(page) == {"one-x86_64": "", "new-x86_64": "only in this run"}
    assert 'data-change="only in the other run" data-gone="1"' in page.source
    anchors = {link[1:] for link in page.links if link.startswith("#")}
    assert anchors <= set(page.ids)


def test_the_page_is_whole_without_its_script_and_without_a_network(
    runs: tuple[Path, Path],
) -> None:
    both(runs, "one", {"outcome": "failed", "failure": TIMEOUT, "timeline": "menu-timeout"}, {})
    page = against(runs)
    bare = page.source.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "")
    assert "http" not in bare
    for outside in ("<link", "<img", "<iframe", "src=", "url(", "@import"):
        assert outside not in bare.replace("default-src=", "").replace("script-src", "")
    body = page.source.partition("<body>")[2].partition("<script>")[0]
    # Nothing but the filter, which is of no use without the script, is hidden.
    assert body.count(" hidden") == 1
    assert "now fails" in body
    assert "gave up after 62.7 s" in body


def test_the_command_line(runs: tuple[Path, Path], tmp_path: Path) -> None:
    both(runs, "one", {"seconds": 200.0}, {})
    done = run(tmp_path, "harness", "report", "now", "--against", "before", "--output", "x.html")
    assert done.returncode == 0, done.stderr
    assert "Against the other run" in (tmp_path / "x.html").read_text()


@pytest.mark.parametrize("other", ["nowhere", "empty", "file"])
def test_another_run_that_is_none_is_an_error(
    runs: tuple[Path, Path], tmp_path: Path, other: str
) -> None:
    both(runs, "one", {}, {})
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    done = run(tmp_path, "harness", "report", "now", "--against", other)
    assert done.returncode == 1
    assert f"error: there is no evidence of a run in {other}" in done.stderr
    assert "hint: " in done.stderr


def test_a_history_that_is_none_is_an_error(runs: tuple[Path, Path], tmp_path: Path) -> None:
    both(runs, "one", {}, {})
    done = run(tmp_path, "harness", "report", "now", "--history", "old.jsonl")
    assert done.returncode == 1
    assert "error: there is no history old.jsonl" in done.stderr
