"""How conformance tests ended, as lines of JSON, and the page that says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from product.errors import KubesoloError
from scenarios.conformance.selection import area, areas

# Of a failure's words, so many characters are on the page.
_WORDS = 240


class ResultsError(KubesoloError):
    """A file of results cannot be read."""

    exit_code = 2


class Verdict(StrEnum):
    """What a test's end means."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"  # by itself: the cluster lacks what it needs
    NOT_RUN = "not run"  # or not to its end


# Of ginkgo's states; any other one is a failure.
_VERDICTS = {
    "passed": Verdict.PASSED,
    "skipped": Verdict.SKIPPED,
    "pending": Verdict.SKIPPED,
    "interrupted": Verdict.NOT_RUN,
    "aborted": Verdict.NOT_RUN,
}


class Result(BaseModel):
    """One line of the tests' ``-results``; ``at`` is where a failure's source lies."""

    model_config = ConfigDict(frozen=True)

    name: str
    state: str
    seconds: float = Field(ge=0)
    message: str = ""
    at: str = ""

    @property
    def verdict(self) -> Verdict:
        """What it means."""
        return _VERDICTS.get(self.state, Verdict.FAILED)

    @property
    def words(self) -> str:
        """Its message in one line."""
        text = " ".join(self.message.split())
        return text if len(text) <= _WORDS else f"{text[:_WORDS]}..."

    @classmethod
    def parse(cls, line: str) -> Result:
        """Raises ResultsError."""
        try:
            return cls.model_validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise ResultsError(
                f"{line[:80]!r} is no result of a test: {key}: {first['msg']}".replace(": :", ":"),
                hint="a result is an object with name, state and seconds",
            ) from None


def read(path: Path) -> dict[str, Result]:
    """The last result of each test, by its name; none where there is no file.

    What a run that was killed has half written at the file's end does not count. Raises
    ResultsError.
    """
    try:
        text = path.read_text()
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ResultsError(
            f"cannot read results of tests from {path}: {error}", hint="begin without --resume"
        ) from None
    whole = text[: text.rfind("\n") + 1]
    try:
        return {result.name: result for result in map(Result.parse, whole.splitlines())}
    except ResultsError as error:
        raise ResultsError(f"{path}: {error.message}", hint="begin without --resume") from None


class Conditions(BaseModel):
    """What the results are of; ``host`` is in words."""

    model_config = ConfigDict(frozen=True)

    kubernetes: str
    image: str
    arch: str
    date: str
    host: str
    command: str


class Standing(NamedTuple):
    """Every conformance test by what is known of it; ``left_out`` are reasons by names."""

    results: Mapping[Verdict, Sequence[Result]]
    left_out: Mapping[str, str]
    not_run: Sequence[str]

    @classmethod
    def of(
        cls, names: Sequence[str], results: Mapping[str, Result], left_out: Mapping[str, str]
    ) -> Standing:
        """Of the tests ``names``. A test that was left out and ran all the same counts as run."""
        ended = [
            results[name]
            for name in names
            if name in results and results[name].verdict is not Verdict.NOT_RUN
        ]
        ran = {result.name for result in ended}
        return cls(
            {
                verdict: [result for result in ended if result.verdict is verdict]
                for verdict in (Verdict.FAILED, Verdict.SKIPPED, Verdict.PASSED)
            },
            {name: left_out[name] for name in names if name in left_out and name not in ran},
            [name for name in names if name not in ran and name not in left_out],
        )

    def of_area(self, wanted: str) -> Standing:
        """The part of one area."""
        return Standing(
            {
                verdict: [result for result in results if area(result.name) == wanted]
                for verdict, results in self.results.items()
            },
            {name: why for name, why in self.left_out.items() if area(name) == wanted},
            [name for name in self.not_run if area(name) == wanted],
        )

    @property
    def counts(self) -> tuple[int, int, int, int, int]:
        """Passed, failed, skipped, left out, not run."""
        return (
            len(self.results[Verdict.PASSED]),
            len(self.results[Verdict.FAILED]),
            len(self.results[Verdict.SKIPPED]),
            len(self.left_out),
            len(self.not_run),
        )

    def __str__(self) -> str:
        passed, failed, skipped, left_out, not_run = self.counts
        return (
            f"{passed} passed, {failed} failed, {skipped} skipped themselves, {left_out} left out, "
            f"{not_run} not run"
        )


_HEAD = """# Kubernetes' conformance tests

`./noxw -s conformance -- --document` writes this page. [testing.md](testing.md) says how the tests
run, and [fixtures/conformance.toml](../fixtures/conformance.toml) which of them are left out. It is
no certificate, which wants every test passed.

"""


def page(standing: Standing, conditions: Conditions) -> str:
    """``docs/conformance.md``."""
    names = [result.name for results in standing.results.values() for result in results]
    names += [*standing.left_out, *standing.not_run]
    lines = [
        "| | |", "|---|---|",
        f"| Kubernetes, and its tests | {conditions.kubernetes} |",
        f"| image | {conditions.image}, {conditions.arch} |",
        f"| date | {conditions.date} |",
        f"| host | {conditions.host} |",
        f"| command | `{conditions.command}` |",
        "",
        "| area | passed | failed | skipped | left out | not run |",
        "|---|---|---|---|---|---|",
        *[_row(one, standing.of_area(one)) for one in areas(names)],
        _row("all", standing),
        "",
    ]  # fmt: skip
    for title, verdict in (
        ("Failed", Verdict.FAILED),
        ("Skipped by themselves", Verdict.SKIPPED),
    ):
        rows = [f"{_code(one.name)}: {_plain(one.words)}" for one in standing.results[verdict]]
        lines += _section(title, rows)
    reasons: dict[str, list[str]] = {}
    for name, reason in standing.left_out.items():
        reasons.setdefault(reason, []).append(name)
    rows = [
        f"{_plain(reason)}\n" + "\n".join(f"  - {_code(name)}" for name in named)
        for reason, named in reasons.items()
    ]
    lines += _section("Left out", rows)
    passed = standing.results[Verdict.PASSED]
    lines += _section("Passed", [f"{_code(one.name)} {one.seconds:.0f} s" for one in passed])
    lines += _section("Not run", [_code(name) for name in standing.not_run])
    return _HEAD + "\n".join(lines)


def _row(name: str, standing: Standing) -> str:
    return f"| {name} | {' | '.join(str(count) for count in standing.counts)} |"


def _section(title: str, rows: Sequence[str]) -> list[str]:
    return [f"## {title}", "", *[f"- {row}" for row in rows], ""] if rows else []


def _code(name: str) -> str:
    return f"`{name.removesuffix(' [Conformance]').replace('`', chr(39))}`"


def _plain(text: str) -> str:
    """``text`` without what Markdown would take for marks."""
    return text.translate({ord(mark): f"\\{mark}" for mark in "\\`*_<>[]"})
