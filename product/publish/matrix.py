"""What a run of scenarios leaves for a release, and whether it is enough for one.

``report.json`` beside the evidence says how each scenario of one run ended. The harness writes it;
``MatrixReport`` is its format. A release needs reports that together hold every file of scenarios
on every architecture, of the very commit, without a failure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from product.publish.errors import MatrixError

REPORT = "report.json"
FULL = "full"
# The scenario that updates from the release before; what it was is its property UPGRADED_FROM.
UPGRADE = "scenarios/update/test_upgrade.py"
UPGRADED_FROM = "upgraded_from"
_SHOWN = 5


class MatrixReport(BaseModel):
    """One run. Scenarios are pytest's node ids, times ISO 8601 in UTC.

    ``commit`` is null outside git; ``dirty`` says that files differed from it at the run's begin or
    end, or were not in it. ``architectures`` and ``paths`` (relative to the checkout) are what was
    to run, ``tier`` which tier of it. ``host`` names its system, processors and architecture.
    ``skipped`` and ``not_run`` have reasons, ``failed`` the failure's last line; ``properties`` are
    what scenarios recorded of themselves.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    id: str
    commit: str | None = Field(default=None, pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})$")
    dirty: bool
    started: datetime
    ended: datetime
    host: str
    tier: str
    architectures: tuple[str, ...]
    paths: tuple[str, ...]
    passed: tuple[str, ...] = ()
    failed: Mapping[str, str] = Field(default_factory=dict)
    skipped: Mapping[str, str] = Field(default_factory=dict)
    not_run: Mapping[str, str] = Field(default_factory=dict)
    properties: Mapping[str, Mapping[str, str]] = Field(default_factory=dict)

    def dump(self) -> str:
        """The file's text."""
        return json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True) + "\n"

    def covers(self, file: str, architecture: str) -> bool:
        """Whether the run was to hold every scenario of ``file`` on ``architecture``."""
        if architecture not in self.architectures:
            return False
        return any(path in (".", "") or _below(file, path) for path in self.paths)


class Wanted(NamedTuple):
    """What reports must show: ``days`` is how old the oldest may be, ``upgraded_from`` the version
    of the release before, where there is one."""

    commit: str
    files: Sequence[str]
    architectures: Sequence[str]
    days: float
    upgraded_from: str | None = None


def read_reports(places: Iterable[Path]) -> list[MatrixReport]:
    """The reports in ``places``: files, or folders in which each ``report.json`` counts.

    Raises MatrixError where there is none, or one is none.
    """
    found = []
    for place in places:
        files = sorted(place.rglob(REPORT)) if place.is_dir() else [place]
        if not files:
            raise MatrixError(f"there is no {REPORT} below {place}", hint=_RUN)
        found += [_read(file) for file in files]
    return found


_RUN = "run ./noxw -s matrix on this very commit; it leaves out/scenarios/report.json"


def _read(path: Path) -> MatrixReport:
    try:
        return MatrixReport.model_validate_json(path.read_bytes())
    except OSError as error:
        raise MatrixError(f"{path} cannot be read: {error.strerror}", hint=_RUN) from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise MatrixError(
            f"{path} is no report of a run: {place}: {first['msg']}", hint=_RUN
        ) from None


def problems(
    reports: Sequence[MatrixReport], wanted: Wanted, now: datetime | None = None
) -> Iterator[str]:
    """Why ``reports`` are not enough for a release, one sentence each."""
    moment = now or datetime.now(UTC)
    for one in reports:
        what = f"run {one.id}"
        if one.commit != wanted.commit:
            yield f"{what} was of commit {one.commit or 'unknown'}, not of {wanted.commit}"
        if one.dirty:
            yield f"{what} was of a checkout with changes that were not committed"
        if one.tier != FULL:
            yield f"{what} was of the tier {one.tier}"
        age = moment - one.ended
        if age > timedelta(days=wanted.days):
            yield f"{what} ended {age.days} days ago, and may be {wanted.days:g} days old"
        if one.ended < one.started or one.started > moment + timedelta(hours=1):
            yield f"{what} began at {one.started:%Y-%m-%d %H:%M} and ended at {one.ended:%H:%M}"
        yield from _bad(what, "failed", one.failed)
        yield from _bad(what, "did not run", one.not_run)
        unexplained = [test for test, why in one.skipped.items() if not why.strip()]
        yield from _bad(what, "were skipped without a reason", dict.fromkeys(unexplained, ""))
    yield from _uncovered(reports, wanted)
    if wanted.upgraded_from is not None:
        yield from _no_upgrade(reports, wanted)


def _bad(what: str, how: str, tests: Mapping[str, str]) -> Iterator[str]:
    if tests:
        names = sorted(tests)
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        yield f"{what}: {len(names)} scenarios {how}: {', '.join(names[:_SHOWN])}{more}"


def _uncovered(reports: Sequence[MatrixReport], wanted: Wanted) -> Iterator[str]:
    if not wanted.files:
        yield "the checkout has no scenarios"
    for architecture in wanted.architectures:
        missing = [
            file
            for file in wanted.files
            if not any(one.covers(file, architecture) for one in reports)
        ]
        if missing:
            yield (
                f"{len(missing)} files of scenarios did not run on {architecture}: "
                f"{', '.join(missing[:_SHOWN])}"
            )
    if not any(one.passed for one in reports):
        yield "no scenario passed"


def _no_upgrade(reports: Sequence[MatrixReport], wanted: Wanted) -> Iterator[str]:
    for architecture in wanted.architectures:
        passed = {
            test: one.properties.get(test, {}).get(UPGRADED_FROM)
            for one in reports
            for test in one.passed
            if test.partition("::")[0] == UPGRADE and f"[{architecture}" in test
        }
        if wanted.upgraded_from not in passed.values():
            before = ", ".join(sorted({version or "?" for version in passed.values()}))
            yield (
                f"the update from the release before, {wanted.upgraded_from}, did not run on "
                f"{architecture}" + (f", only one from {before}" if before else "")
            )


def _below(file: str, path: str) -> bool:
    whole = path.rstrip("/")
    return file == whole or file.startswith(f"{whole}/")
