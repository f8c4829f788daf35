"""Counters outlive reboots, a history that forgets, garbage, and a disk that fails."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from product.agent.records.counters import CounterFile, Counters
from product.agent.records.history import KEPT, SLACK, History


class Records:
    """Counters and history in a directory, written as product.agent.update.record does."""

    def __init__(self, base: Path) -> None:
        self.path = base / "update/counters.json"
        self.history_path = base / "update/history.jsonl"
        self.file = CounterFile(str(self.path), str(self.history_path), str(base / "run/lock"))
        self.history = History(str(self.history_path))

    def note(self, event: str, outcome: str, **fields: object) -> None:
        entry = {"time": "2026-11-21T10:55:24Z", "event": event, "outcome": outcome, **fields}
        assert self.file.change(lambda counters: counters.ended(entry)) is None
        self.history.add(0, event, outcome)


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return Records(tmp_path)


def test_nothing_happened_yet(records: Records) -> None:
    assert records.file.read() == Counters()
    assert not records.path.exists()


def test_what_ended_how(records: Records) -> None:
    for _ in range(3):
        assert records.file.change(Counters.attempted) is None
    records.note("apply", "failed")
    records.note("apply", "refused")
    records.note("apply", "staged")
    records.note("trial", "success")
    records.note("trial", "rolled_back", to_version="0.3.0", reason="x" * 1000)
    records.note("hook", "failed")
    found = records.file.read()
    assert (found.attempts, found.failures, found.installs, found.rollbacks) == (3, 1, 1, 1)
    assert found.last_rollback is not None
    assert found.last_rollback.version == "0.3.0"
    assert len(found.last_rollback.reason or "") == 300


def test_a_history_that_forgets_takes_nothing_back(records: Records) -> None:
    for _ in range(KEPT + SLACK + 20):
        records.file.change(Counters.attempted)
        records.note("apply", "failed")
    assert len(records.history.entries()) <= KEPT
    assert records.file.read().attempts == KEPT + SLACK + 20
    assert records.file.read().failures == KEPT + SLACK + 20


def test_counting_goes_on_from_an_older_agents_history(records: Records) -> None:
    for outcome in ("failed", "staged", "refused"):
        records.history.add(
            0, "apply", outcome, gate="quarantine" if outcome == "refused" else None
        )
    records.history.add(0, "trial", "rolled_back", to_version="0.2.0", reason="3 failed boots")
    records.history.add(0, "apply", "staged", moved={"full": 10, "delta": 0, "copied": 3})
    before = records.file.read()
    assert (before.attempts, before.failures, before.rollbacks) == (4, 1, 1)
    assert before.refusals == {"quarantine": 1}
    assert before.bytes == {"full": 10, "copied": 3}
    records.file.change(Counters.attempted)
    assert records.file.read() == before._replace(attempts=5)


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{", "\0" * 400, '{"attempts": -1}', '{"attempts": true}', '{"refusals": 3}',
        '{"refusals": {"a": "b"}}', '{"last_rollback": {"time": 3}}', '{"bytes": {"full": 1.5}}',
        "[" * 100_000, " " * 70_000,
    ],
)  # fmt: skip
def test_garbage_begins_with_the_history(records: Records, text: str) -> None:
    records.history.add(0, "apply", "staged")
    records.path.write_text(text)
    assert records.file.read().attempts == 1
    problem = records.file.change(Counters.attempted)
    assert problem is not None
    assert "holds no counters" in problem
    assert records.file.read().attempts == 2
    assert records.file.change(Counters.attempted) is None


def test_a_newer_agents_keys_are_passed_over(records: Records) -> None:
    records.path.parent.mkdir()
    records.path.write_text(json.dumps({"attempts": 4, "flights": 3, "refusals": {"new": 2}}))
    assert records.file.read() == Counters(attempts=4, refusals={"new": 2})


def test_a_disk_that_fails_is_a_problem_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    blocked = CounterFile(str(tmp_path / "file/c"), str(tmp_path / "h"), str(tmp_path / "lock"))
    problem = blocked.change(Counters.attempted)
    assert problem is not None
    assert "cannot" in problem


def test_names_do_not_grow_without_end(records: Records) -> None:
    def refused(gate: str) -> None:
        records.file.change(lambda counters: counters.refused(gate))

    for number in range(200):
        refused(f"gate{number}")
    assert len(records.file.read().refusals) == 64
    assert records.file.change(Counters.attempted) is None


def test_who_counts_at_the_same_time_takes_a_turn(records: Records) -> None:
    other = threading.Thread(target=records.file.change, args=(Counters.attempted,))

    def slowly(counters: Counters) -> Counters:
        other.start()
        other.join(0.5)
        assert other.is_alive()
        return counters.attempted()

    assert records.file.change(slowly) is None
    other.join(20)
    assert records.file.read().attempts == 2
