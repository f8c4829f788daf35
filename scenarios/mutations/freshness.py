"""Which results still count, and which ones to renew first."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from scenarios.mutations.digests import Sources
from scenarios.mutations.results import Result
from scenarios.mutations.table import Case, Mutation, MutationError


class State(enum.StrEnum):
    """Whether a result counts."""

    FRESH = "fresh"  # measured on what is there now
    STALE = "stale"  # something that it was measured on has changed
    MISSING = "missing"  # never measured


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of a case; ``changed`` names the digests that differ."""

    case: Case
    mutation: Mutation
    result: Result | None
    changed: tuple[str, ...] = ()

    @property
    def state(self) -> State:
        """Whether its result counts."""
        if self.result is None:
            return State.MISSING
        return State.STALE if self.changed else State.FRESH

    @property
    def caught(self) -> bool:
        """Whether the scenario failed at its own demand when it was last run."""
        return self.result is not None and self.result.caught_by(self.mutation)

    def age(self, now: datetime) -> int | None:
        """Whole days since it was measured."""
        return None if self.result is None else max(0, (now - self.result.measured_at).days)

    def describe(self, now: datetime) -> str:
        """In words, with its age."""
        if self.result is None:
            return State.MISSING.value
        days = self.age(now)
        words = f"{self.state}, {days} day{'' if days == 1 else 's'} old"
        if self.changed:
            words += f", changed since: {', '.join(self.changed)}"
        return words if self.caught else f"{words}, NOT CAUGHT"


@dataclass(frozen=True, slots=True)
class Job:
    """One mutation to be built for one architecture, and the scenarios to run on it."""

    mutation: Mutation
    arch: str
    scenarios: tuple[str, ...]

    @property
    def cases(self) -> tuple[Case, ...]:
        """What it gives results of."""
        return tuple(Case(self.mutation.name, name, self.arch) for name in self.scenarios)


def standings(
    mutations: Sequence[Mutation], results: Mapping[Case, Result], sources: Sources
) -> list[Standing]:
    """Of each case that a release needs, in the table's order. Raises MutationError."""
    found = []
    for mutation in mutations:
        for case in mutation.cases:
            result = results.get(case)
            changed: tuple[str, ...] = ()
            if result is not None:
                changed = sources.digests(mutation, case.scenario).changed(result.digests)
            found.append(Standing(case, mutation, result, changed))
    return found


def count(found: Iterable[Standing]) -> dict[State, int]:
    """How many there are of each state."""
    states = [standing.state for standing in found]
    return {state: states.count(state) for state in State}


def summary(found: Sequence[Standing], now: datetime) -> str:
    """In one line: how many of each state, and the age of the oldest result."""
    words = ", ".join(f"{number} {state}" for state, number in count(found).items())
    ages = [age for standing in found if (age := standing.age(now)) is not None]
    oldest = f"; the oldest result is {max(ages)} days old" if ages else ""
    return f"{len(found)} results are needed: {words}{oldest}"


def jobs(found: Iterable[Standing], *, arch: str | None = None) -> list[Job]:
    """All of ``found``, one job for each mutation and architecture, in their order."""
    grouped: dict[tuple[str, str], list[Standing]] = {}
    for standing in found:
        case = standing.case
        if arch in (None, case.arch):
            grouped.setdefault((case.mutation, case.arch), []).append(standing)
    return [
        Job(group[0].mutation, group[0].case.arch, tuple(s.case.scenario for s in group))
        for group in grouped.values()
    ]


def require_judged_on(found: Iterable[Standing], arch: str) -> None:
    """Something of ``found`` is judged on ``arch``. Raises MutationError: to run nothing is no
    answer to who asks for a run."""
    needed = sorted({standing.case.arch for standing in found})
    if arch not in needed:
        raise MutationError(
            f"nothing that was asked for is judged on {arch}, but on {' and '.join(needed)}",
            hint="leave --arch out",
        )


def to_renew(found: Iterable[Standing]) -> list[Standing]:
    """What is not fresh: the missing ones, then the stale ones, the oldest first."""

    def order(standing: Standing) -> tuple[bool, float]:
        result = standing.result
        return (False, 0.0) if result is None else (True, result.measured_at.timestamp())

    return sorted((s for s in found if s.state is not State.FRESH), key=order)
