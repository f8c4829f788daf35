"""What runs have left: a record of each in ``history.jsonl``, the oldest first.

A record is one line of JSON: ``schema``, ``id``, ``commit``, ``started``, ``tier`` and
``scenarios``, which has for each node id ``outcome``, ``seconds`` (its own, without waiting and
snapshots) and ``backend``. A line that cannot be read is left out.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from harness.report.data import INCOMPLETE, PASSED, QEMU, RunRecord, Scenario

HISTORY_FILE = "history.jsonl"
KEPT = 200  # runs in the file
SHOWN = 20  # runs in a report
# A scenario is slower, or faster, from this factor and this many seconds on: emulated machines on
# a busy host differ by less.
FACTOR = 1.5
SECONDS = 5.0
_SCHEMA = 1
_EARLIER = 3  # passes that a usual duration is the median of, at least

NOW_FAILS, NOW_PASSES, SLOWER, FASTER = "now fails", "now passes", "slower", "faster"


@dataclass(frozen=True, slots=True)
class Result:
    """One scenario in one run; ``seconds`` are None where it came to no end."""

    outcome: str
    seconds: float | None
    backend: str = QEMU

    @property
    def passed(self) -> bool:
        """Whether there is nothing to look into."""
        return self.outcome == PASSED

    @classmethod
    def of(cls, scenario: Scenario) -> Self:
        """The result of a scenario's evidence."""
        seconds = round(scenario.own_seconds, 1) if scenario.complete else None
        return cls(scenario.outcome, seconds, scenario.backend or QEMU)


@dataclass(frozen=True, slots=True)
class Record:
    """One run; ``scenarios`` by node id."""

    id: str
    commit: str
    started: str
    tier: str
    scenarios: Mapping[str, Result]

    @classmethod
    def of(cls, run: RunRecord, scenarios: Sequence[Scenario]) -> Self:
        """The record of a run whose evidence these scenarios are."""
        results = {one.test: Result.of(one) for one in sorted(scenarios, key=lambda one: one.test)}
        return cls(run.id, run.commit, run.started, run.tier, results)

    @classmethod
    def parse(cls, line: str) -> Self | None:
        """A line of the file; None where it is damaged or of another schema."""
        try:
            document = json.loads(line)
            if document["schema"] != _SCHEMA:
                return None
            scenarios = {}
            for test, result in document["scenarios"].items():
                seconds = result["seconds"]
                known = None if seconds is None else float(seconds)
                backend = str(result.get("backend", QEMU))
                scenarios[str(test)] = Result(str(result["outcome"]), known, backend)
            return cls(
                id=str(document["id"]),
                commit=str(document["commit"]),
                started=str(document["started"]),
                tier=str(document["tier"]),
                scenarios=scenarios,
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    @property
    def line(self) -> str:
        """It as a line of the file."""
        scenarios = {
            test: {"outcome": one.outcome, "seconds": one.seconds, "backend": one.backend}
            for test, one in self.scenarios.items()
        }
        document = {
            "schema": _SCHEMA, "id": self.id, "commit": self.commit, "started": self.started,
            "tier": self.tier, "scenarios": scenarios,
        }  # fmt: skip
        return json.dumps(document, separators=(",", ":")) + "\n"

    @property
    def passed(self) -> int:
        """How many scenarios passed."""
        return sum(one.passed for one in self.scenarios.values())

    @property
    def seconds(self) -> float:
        """All scenarios together."""
        return sum(one.seconds or 0.0 for one in self.scenarios.values())


def read_history(path: Path) -> list[Record]:
    """The records in ``path``; none where there is no such file. Raises OSError."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return []
    return [record for line in lines if (record := Record.parse(line)) is not None]


def append(path: Path, record: Record) -> None:
    """Add a run, in the place of its own earlier record, and forget the oldest. Raises OSError.

    Two runs that end at once are both in the file, which is replaced as a whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        earlier = [one for one in read_history(path) if one.id != record.id]
        partial = path.with_name(f".{path.name}.part")
        partial.write_text("".join(one.line for one in [*earlier, record][-KEPT:]))
        partial.replace(path)
    finally:
        os.close(folder)


def with_run(history: Sequence[Record], run: Record | None) -> list[Record]:
    """What a report on ``run`` tells of: earlier runs and itself, the last ``SHOWN`` of them.

    A run that the history has stays where it is, and later ones are left out. One that it has not
    was ended before it could be recorded.
    """
    records = list(history)
    if run is not None:
        place = next((n for n, one in enumerate(records) if one.id == run.id), len(records))
        records = [*records[:place], run]
    return records[-SHOWN:]


@dataclass(frozen=True, slots=True)
class Change:
    """What is different about a scenario in the last of several runs; ``why`` is for readers."""

    test: str
    kind: str
    why: str


def past(records: Sequence[Record], test: str) -> list[tuple[Record, Result]]:
    """The runs that had a scenario, on the backend that it ran on last."""
    found = [(one, one.scenarios[test]) for one in records if test in one.scenarios]
    return [(one, result) for one, result in found if result.backend == found[-1][1].backend]


def changes(records: Sequence[Record]) -> Iterator[Change]:
    """What the last run has that those before had not: verdicts, and durations of what passed."""
    if not records:
        return
    for test in sorted(records[-1].scenarios):
        earlier = past(records, test)
        latest = earlier.pop()[1]
        if not earlier:
            continue
        before, result = earlier[-1]
        if result.passed != latest.passed:
            kind = NOW_PASSES if latest.passed else NOW_FAILS
            yield Change(test, kind, f"{result.outcome} in run {before.id}, {_commit(before)}")
        elif (change := _duration(latest, [one for _, one in earlier])) is not None:
            yield Change(test, *change)


def compared(seconds: float, usual: float) -> str:
    """``SLOWER`` or ``FASTER`` where a duration differs from the usual one, else nothing."""
    low, high = sorted((seconds, usual))
    if high - low < SECONDS or high < low * FACTOR:
        return ""
    return SLOWER if seconds > usual else FASTER


def _duration(latest: Result, earlier: Sequence[Result]) -> tuple[str, str] | None:
    times = [one.seconds for one in earlier if one.passed and one.seconds is not None]
    if not latest.passed or latest.seconds is None or len(times) < _EARLIER:
        return None
    usual = statistics.median(times)
    if not (kind := compared(latest.seconds, usual)):
        return None
    return kind, f"{latest.seconds:.1f} s; {usual:.1f} s is the median of {len(times)} passes"


def unsteady(records: Sequence[Record]) -> dict[str, int]:
    """Scenarios whose verdict changed more than once, with the number of changes."""
    tests = {test for one in records for test in one.scenarios}
    found = {}
    for test in sorted(tests):
        verdicts = [r.passed for _, r in past(records, test) if r.outcome != INCOMPLETE]
        turns = sum(one != other for one, other in itertools.pairwise(verdicts))
        if turns > 1:
            found[test] = turns
    return found


def _commit(record: Record) -> str:
    return f"commit {record.commit[:12]}"
