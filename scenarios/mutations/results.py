"""Results of mutations, and the tracked file that keeps them, so that a table is run in pieces."""

from __future__ import annotations

import enum
import json
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from scenarios.mutations.digests import Digests
from scenarios.mutations.table import Case, Mutation, MutationError


class Outcome(enum.StrEnum):
    """How a scenario ended on the mutated product."""

    FAILED = "failed"  # in its own steps, with an error that a broken promise raises
    ELSEWHERE = "elsewhere"  # in its set-up, or with another error
    SURVIVED = "survived"  # it passed


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Control(_Strict):
    """That the scenario passed on the unmutated copy in the same run."""

    seconds: float
    measured_at: AwareDatetime


class Result(_Strict):
    """How one scenario ended; ``how`` is what ``witness`` wrote, empty where it survived."""

    mutation: str
    scenario: str
    arch: str
    outcome: Outcome
    how: str
    seconds: float
    measured_at: AwareDatetime
    commit: str
    digests: Digests
    control: Control

    @property
    def case(self) -> Case:
        """What it is a result of."""
        return Case(self.mutation, self.scenario, self.arch)

    def caught_by(self, mutation: Mutation) -> bool:
        """Whether the scenario failed at the demand that ``mutation`` names today."""
        failed = self.outcome is Outcome.FAILED
        return failed and mutation.demand(self.scenario).search(self.how) is not None

    def verdict(self, mutation: Mutation) -> str:
        """In words: how it was noticed, or why that does not count."""
        if self.outcome is Outcome.SURVIVED:
            return "survived: the scenario passed"
        if self.caught_by(mutation):
            return self.how
        return f"failed for another reason: {self.how}"


def now() -> datetime:
    """This second in UTC."""
    return datetime.now(UTC).replace(microsecond=0)


class _File(_Strict):
    version: Literal[2]
    results: tuple[Result, ...]


class Store:
    """The results in the file at ``path``."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def results(self) -> dict[Case, Result]:
        """Each by what it is a result of; an absent file has none. Raises MutationError."""
        try:
            file = _File.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValidationError) as error:
            raise MutationError(
                f"{self._path} cannot be read: {error}", hint="restore it, or remove it and run"
            ) from None
        return {result.case: result for result in file.results}

    def add(self, result: Result) -> None:
        """Keep ``result`` in place of an earlier one of the same case."""
        self._write(self.results() | {result.case: result})

    def keep(self, cases: Collection[Case]) -> list[Case]:
        """Remove the results of anything but ``cases``; returns of what."""
        results = self.results()
        gone = sorted(results.keys() - set(cases))
        if gone:
            self._write({case: found for case, found in results.items() if case in cases})
        return gone

    def _write(self, results: Mapping[Case, Result]) -> None:
        entries = [results[case].model_dump(mode="json") for case in sorted(results)]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_suffix(".part")
        partial.write_text(json.dumps({"version": 2, "results": entries}, indent=1) + "\n")
        partial.replace(self._path)
