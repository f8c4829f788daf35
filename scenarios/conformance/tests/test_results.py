"""Reading how conformance tests ended, and the page that says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scenarios.conformance.results import (
    Conditions,
    Result,
    ResultsError,
    Standing,
    Verdict,
    page,
    read,
)

ENDED = [
    {"name": "[sig-a] one [Conformance]", "state": "passed", "seconds": 12.4},
    {
        "name": "[sig-a] two [Conformance]",
        "state": "failed",
        "seconds": 300,
        "message": "timed out\n  waiting for <pods>",
        "at": "x.go:1",
    },
    {
        "name": "[sig-b] three [Conformance]",
        "state": "skipped",
        "seconds": 0,
        "message": "needs 2 nodes",
    },
    {"name": "[sig-b] four [Conformance]", "state": "interrupted", "seconds": 3},
]
NAMES = [str(row["name"]) for row in ENDED] + ["[sig-b] five", "[sig-c] six"]
CONDITIONS = Conditions(
    kubernetes="1.36.3", image="upstream 0.1.0", arch="x86_64", date="2026-12-01", host="2 cores",
    command="./noxw -s conformance",
)  # fmt: skip


@pytest.fixture
def results(tmp_path: Path) -> Path:
    path = tmp_path / "results.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ENDED))
    return path


def test_verdicts(results: Path) -> None:
    assert [one.verdict for one in read(results).values()] == [
        Verdict.PASSED, Verdict.FAILED, Verdict.SKIPPED, Verdict.NOT_RUN,
    ]  # fmt: skip


@pytest.mark.parametrize("state", ["failed", "panicked", "timedout", "a new one"])
def test_what_is_not_known_to_be_well_has_failed(state: str) -> None:
    assert Result(name="x", state=state, seconds=1).verdict is Verdict.FAILED


def test_the_last_result_of_a_test_counts(results: Path) -> None:
    with results.open("a") as file:
        file.write(json.dumps({**ENDED[1], "state": "passed"}) + "\n")
    assert read(results)[NAMES[1]].verdict is Verdict.PASSED


def test_what_is_half_written_does_not_count(results: Path) -> None:
    with results.open("a") as file:
        file.write('{"name": "[sig-b] fi')
    assert list(read(results)) == NAMES[:4]


def test_without_a_file_there_are_none(tmp_path: Path) -> None:
    assert read(tmp_path / "none") == {}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("garbage", "'garbage' is no result of a test: Invalid JSON"),
        ('{"name": "x", "seconds": 1}', "state: Field required"),
        ('{"name": "x", "state": "passed", "seconds": -1}', "seconds: "),
        ("[]", "is no result of a test"),
    ],
)
def test_garbage_is_one_error(results: Path, line: str, words: str) -> None:
    results.write_text(line + "\n")
    with pytest.raises(ResultsError, match=words) as caught:
        read(results)
    assert str(results) in caught.value.message
    assert caught.value.hint == "begin without --resume"


def test_a_standing_has_every_test_once(results: Path) -> None:
    standing = Standing.of(NAMES, read(results), {NAMES[4]: "why"})
    assert standing.counts == (1, 1, 1, 1, 2)
    assert standing.not_run == [NAMES[3], NAMES[5]]
    assert str(standing).startswith("1 passed, 1 failed, 1 skipped themselves, 1 left out, 2 not")
    assert standing.of_area("sig-b").counts == (0, 0, 1, 1, 1)


def test_what_was_left_out_and_ran_has_run(results: Path) -> None:
    standing = Standing.of(NAMES, read(results), dict.fromkeys(NAMES, "why"))
    assert standing.counts == (1, 1, 1, 3, 0)


def test_the_page(results: Path) -> None:
    text = page(Standing.of(NAMES, read(results), {NAMES[4]: "needs 2 nodes"}), CONDITIONS)
    assert "| all | 1 | 1 | 1 | 1 | 2 |\n" in text
    assert "| sig-b | 0 | 0 | 1 | 1 | 1 |\n" in text
    assert "- `[sig-a] two`: timed out waiting for \\<pods\\>\n" in text
    assert "## Left out\n\n- needs 2 nodes\n  - `[sig-b] five`\n" in text
    assert "- `[sig-a] one` 12 s\n" in text
    assert "## Not run\n\n- `[sig-b] four`\n- `[sig-c] six`\n" in text
    assert "| Kubernetes, and its tests | 1.36.3 |" in text


def test_a_page_without_failures_has_no_such_section() -> None:
    assert "## Failed" not in page(Standing.of(NAMES, {}, {}), CONDITIONS)


def test_long_messages_are_cut() -> None:
    words = Result(name="x", state="failed", seconds=1, message="word " * 100).words
    assert len(words) == 243
    assert words.endswith("...")
