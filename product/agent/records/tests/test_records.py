"""History and quarantine: bounded, append-only, and robust against what a disk may do to them."""

from __future__ import annotations

from pathlib import Path

import pytest

from product.agent.records.history import KEPT, SLACK, History
from product.agent.records.quarantine import MAX_BYTES, MAX_ENTRIES, Quarantine, QuarantineError

DIGEST = "ab" * 32


def test_history_appends(tmp_path: Path) -> None:
    path = tmp_path / "update" / "history.jsonl"
    history = History(str(path))
    assert history.entries() == []
    history.add(0, "apply", "staged", to_version="0.2.0")
    first = path.read_bytes()
    history.add(1, "trial", "success", to_version="0.2.0", reason="a\nb")
    assert path.read_bytes().startswith(first)
    assert [(e["event"], e["reason"]) for e in history.entries()] == [
        ("apply", None),
        ("trial", "a\nb"),
    ]


def test_history_is_bounded(tmp_path: Path) -> None:
    history = History(str(tmp_path / "h"))
    (tmp_path / "h").write_text('{"event": "old"}\n' * (KEPT + SLACK))
    history.add(0, "apply", "failed")
    lines = (tmp_path / "h").read_text().splitlines()
    assert len(lines) == KEPT
    assert '"apply"' in lines[-1]


def test_a_torn_line_costs_itself_only(tmp_path: Path) -> None:
    path = tmp_path / "h"
    history = History(str(path))
    history.add(0, "apply", "staged")
    path.write_bytes(path.read_bytes() + b'{"event": "tri')
    history.add(0, "trial", "success")
    assert [e["event"] for e in history.entries()] == ["apply", "trial"]


def test_a_history_that_cannot_be_kept_is_a_problem_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    problem = History(str(tmp_path / "file" / "h")).add(0, "apply", "staged")
    assert problem is not None
    assert "cannot write" in problem


def test_the_quarantine_stays_readable_however_many_come(tmp_path: Path) -> None:
    quarantine = Quarantine(str(tmp_path / "q.json"))
    for number in range(MAX_ENTRIES + 2):
        quarantine.add(f"{number:064x}", "0.2.1", "x" * 5000, number)
    entries = quarantine.entries()
    assert sorted(entries) == [f"{number:064x}" for number in range(2, MAX_ENTRIES + 2)]
    assert (tmp_path / "q.json").stat().st_size < MAX_BYTES


def test_quarantine(tmp_path: Path) -> None:
    quarantine = Quarantine(str(tmp_path / "update" / "q.json"))
    assert quarantine.entries() == {}
    quarantine.add(DIGEST, "0.2.1", "3 failed boots", 0)
    quarantine.add(DIGEST, "0.2.1", "again", 99)
    entry = quarantine.entries()[DIGEST]
    assert (entry.version, entry.reason, entry.since) == (
        "0.2.1",
        "3 failed boots",
        "1970-01-01T00:00:00Z",
    )
    assert not quarantine.clear("abab")
    assert not quarantine.clear("cd" * 32)
    assert quarantine.clear(DIGEST[:8])
    assert quarantine.entries() == {}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"x": 1}', '{"x": {"version": "1"}}'])
def test_garbage_never_looks_like_an_empty_list(tmp_path: Path, content: str) -> None:
    path = tmp_path / "q.json"
    path.write_text(content)
    quarantine = Quarantine(str(path))
    with pytest.raises(QuarantineError):
        quarantine.entries()
    quarantine.add(DIGEST, "0.2.1", "reason", 0)
    assert list(quarantine.entries()) == [DIGEST]
    assert (tmp_path / "q.json.corrupt").read_text() == content
    path.write_text(content)
    quarantine.clear_all()
    assert quarantine.entries() == {}
