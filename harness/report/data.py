"""The evidence below a directory of scenarios, read for the report.

Whatever cannot be read is part of the report and no error: a run that was killed leaves scenarios
without a result, and those matter most.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.journal.journal import CONSOLE_TAIL
from harness.report.story import Mark, Story

PASSED = "passed"
FAILED = "failed"
INCOMPLETE = "incomplete"  # without a readable result: the run ended first

QEMU = "qemu"  # the backend where a result names none
CORE, FULL = "core", "full"  # the tiers (harness.pytest_plugin.scenario)

_MAKING = "-making-"
# In each scenario's folder: the id of the run that it belongs to, and its node id below that.
RUN_MARK = "run"
# Beside the scenarios: what the latest run was (harness.pytest_plugin.run).
_RUN_FILE = "run.json"


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine of a scenario: its directory, and its timeline unless that is unreadable."""

    directory: Path
    timeline: Mapping[str, Any] | None
    story: Story | None
    problem: str = ""

    @property
    def making(self) -> bool:
        """Whether it was run to make a snapshot, which later scenarios share."""
        return _MAKING in self.directory.name

    @property
    def files(self) -> list[Path]:
        """What lies in its directory."""
        return sorted(path for path in self.directory.iterdir() if path.is_file())

    @property
    def console_tail(self) -> list[str]:
        """The last lines of its console; of the file where there is no timeline."""
        if self.story is not None:
            return self.story.console[-CONSOLE_TAIL:]
        try:
            text = (self.directory / "console.log").read_text(errors="replace")
        except OSError:
            return []
        return text.splitlines()[-CONSOLE_TAIL:]


@dataclass(frozen=True, slots=True)
class Scenario:
    """One scenario's result and machines; seconds are 0.0 where the result is missing."""

    directory: Path
    test: str
    arch: str
    accelerator: str
    outcome: str
    failure: str
    reproduce: str
    seconds: float = 0.0
    guest_seconds: float = 0.0
    making_seconds: float = 0.0
    turn_seconds: float = 0.0
    overhead_seconds: float = 0.0
    cpu_seconds: float = 0.0
    backend: str = ""
    tier: str = ""
    machines: Sequence[Machine] = field(default_factory=tuple)

    @classmethod
    def read(cls, directory: Path, run: RunRecord | None = None) -> Scenario:
        """The scenario whose evidence lies in ``directory``; ``run`` knows its tier."""
        machines = tuple(
            _machine(path) for path in sorted(directory.iterdir(), key=_order) if path.is_dir()
        )
        try:
            result = json.loads((directory / "result.json").read_bytes())
            if not isinstance(result, dict):
                raise ValueError("it is no JSON object")
        except FileNotFoundError:
            problem = "there is no result.json: the run ended before the scenario did"
            return cls._broken(directory, problem, machines, run)
        except (OSError, ValueError) as error:
            return cls._broken(directory, f"result.json is unreadable: {error}", machines, run)
        test = str(result.get("test") or directory.name)
        return cls(
            directory,
            test=test,
            arch=str(result.get("arch", "")),
            accelerator=str(result.get("accelerator", "")),
            outcome=str(result.get("outcome") or INCOMPLETE),
            failure=str(result.get("failure") or ""),
            reproduce=str(result.get("reproduce") or ""),
            seconds=_number(result, "seconds"),
            guest_seconds=_number(result, "guest_seconds"),
            making_seconds=_number(result, "making_seconds"),
            turn_seconds=_number(result, "turn_seconds"),
            overhead_seconds=_number(result, "overhead_seconds"),
            cpu_seconds=_number(result, "cpu_seconds"),
            backend=str(result.get("backend") or QEMU),
            tier=run.tier_of(test) if run else "",
            machines=machines,
        )

    @classmethod
    def _broken(
        cls, directory: Path, problem: str, machines: Sequence[Machine], run: RunRecord | None
    ) -> Scenario:
        arch = next((one.story.arch for one in machines if one.story), "")
        test = _mark(directory)[1] or directory.name
        tier = run.tier_of(test) if run else ""
        return cls(directory, test, arch, "", INCOMPLETE, problem, "", tier=tier, machines=machines)

    @property
    def passed(self) -> bool:
        """Whether there is nothing to look into."""
        return self.outcome == PASSED

    @property
    def complete(self) -> bool:
        """Whether it has a result with times."""
        return self.outcome != INCOMPLETE

    @property
    def own_seconds(self) -> float:
        """Its seconds without waiting for a turn and without snapshots, which others share."""
        return max(0.0, self.seconds - self.making_seconds - self.turn_seconds)

    @property
    def faults(self) -> list[str]:
        """The kinds of faults that its machines suffered."""
        stories = [one.story for one in self.machines if one.story and not one.making]
        return sorted({kind for story in stories for kind in story.fault_kinds})

    @property
    def anchor(self) -> str:
        """Its place in the report's page, the same in each run."""
        return anchor(self.test)

    @property
    def deciding(self) -> tuple[Machine, Mark] | None:
        """The machine and the moment that ended it, where a journal has that."""
        for machine in self.machines:
            if machine.story and (mark := machine.story.deciding(self.failure)):
                return machine, mark
        return None

    @property
    def span(self) -> tuple[datetime.datetime, datetime.datetime] | None:
        """From the first machine's start to the last one's end."""
        spans = []
        for machine in self.machines:
            if machine.story is None:
                continue
            try:
                begin = datetime.datetime.fromisoformat(machine.story.started)
            except ValueError:
                continue
            if begin.tzinfo is not None:
                spans.append((begin, begin + datetime.timedelta(seconds=machine.story.seconds)))
        if not spans:
            return None
        return min(begin for begin, _ in spans), max(end for _, end in spans)


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What was to run: ``selected`` node ids; ``left_out`` and ``skipped`` have reasons."""

    id: str
    commit: str
    started: str
    ended: str
    tier: str
    selected: Sequence[str]
    left_out: Mapping[str, str]
    skipped: Mapping[str, str]
    core: Collection[str] | None = None

    def tier_of(self, test: str) -> str:
        """The tier that a scenario is in; empty in a record that does not say."""
        if self.core is None:
            return self.tier if self.tier == CORE else ""
        return CORE if test in self.core else FULL

    def not_run(self, ran: Collection[str]) -> dict[str, str]:
        """Node id to reason for everything that left no evidence in this run."""
        found = dict.fromkeys(self.selected, "the run ended before it began")
        found.update(self.left_out)
        found.update(self.skipped)
        return {test: why for test, why in sorted(found.items()) if test not in ran}


def anchor(test: str) -> str:
    """A test's place in the report's page, the same in each run."""
    return "scenario-" + re.sub(r"[^A-Za-z0-9_.-]+", "-", test).strip("-")


def read_run(directory: Path) -> RunRecord | None:
    """The latest run below ``directory``; None where nothing readable says what it was."""
    try:
        document = json.loads((directory / _RUN_FILE).read_bytes())
        return RunRecord(
            id=str(document["id"]),
            commit=str(document["commit"] or "unknown"),
            started=str(document["started"]),
            ended=str(document.get("ended", "")),
            tier=str(document["tier"]),
            selected=[str(test) for test in document["selected"]],
            left_out=dict(document["left_out"]),
            skipped=dict(document["skipped"]),
            core=frozenset(document["core"]) if "core" in document else None,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def read_scenarios(directory: Path) -> list[Scenario]:
    """Every scenario of the latest run below ``directory``: what failed first, then by name.

    Evidence of earlier runs is left alone. Where nothing says which run was the latest, all counts.
    """
    if not directory.is_dir():
        return []
    run = read_run(directory)
    folders = [path for path in directory.iterdir() if path.is_dir()]
    found = [
        Scenario.read(path, run) for path in folders if run is None or _mark(path)[0] == run.id
    ]
    rank = {FAILED: 0, PASSED: 2}
    return sorted(found, key=lambda one: (rank.get(one.outcome, 1), one.test, one.arch))


def _mark(directory: Path) -> tuple[str, str]:
    """Run and node id of the evidence; empty where that is not said."""
    try:
        run, _, test = (directory / RUN_MARK).read_text().partition("\n")
    except (OSError, ValueError):
        return "", ""
    return run.strip(), test.strip()


def _machine(directory: Path) -> Machine:
    path = directory / "timeline.json"
    try:
        timeline = json.loads(path.read_bytes())
        return Machine(directory, timeline, Story.of(timeline))
    except FileNotFoundError:
        return Machine(directory, None, None, "it has no timeline.json")
    except (OSError, ValueError, TypeError, AttributeError) as error:
        return Machine(directory, None, None, f"timeline.json is unreadable: {error}")


def _order(path: Path) -> tuple[bool, str]:
    return _MAKING in path.name, path.name


def _number(result: Mapping[str, Any], name: str) -> float:
    value = result.get(name)
    return float(value) if isinstance(value, int | float) else 0.0
