"""The CIS Kubernetes Benchmark on a node: its rows, what becomes of each, and the page of them.

``fixtures/cis.toml`` holds the rows and says what its fields mean.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

ROOT = Path(__file__).resolve().parents[2]
LIST, PAGE = ROOT / "fixtures" / "cis.toml", ROOT / "docs" / "cis.md"
VERSION = "1.12"
_SUBJECTS = (
    "files", "flag", "kubelet", "proxy", "http", "closed", "denied", "pod", "object", "admins",
    "secrets",
)  # fmt: skip
_COMPARISONS = ("is", "has", "lacks", "within", "least", "unset")
_NEEDS_COMPARISON = ("flag", "kubelet", "proxy", "http")

Value = bool | int | str


class Check(BaseModel):
    """One subject, and what it is held against."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    files: str | None = None
    mode: str | None = None
    owner: str | None = None
    flag: str | None = None
    kubelet: str | None = None
    proxy: str | None = None
    http: str | None = None
    closed: int | None = None
    denied: str | None = None
    pod: dict[str, Any] | None = None
    object: str | None = None
    admins: tuple[str, ...] | None = None
    secrets: str | None = None
    same: Value | None = Field(None, alias="is")
    has: str | None = None
    lacks: str | None = None
    within: tuple[str, ...] | None = None
    least: int | None = None
    unset: bool | None = None

    @model_validator(mode="after")
    def _is_one_question(self) -> Self:
        subjects = [name for name in _SUBJECTS if getattr(self, name) is not None]
        if len(subjects) != 1:
            raise ValueError(f"a check has one subject, this one {subjects}")
        found = [name for name in _COMPARISONS if getattr(self, _field(name)) is not None]
        wanted = int(subjects[0] in _NEEDS_COMPARISON)
        if len(found) != wanted:
            raise ValueError(f"{subjects[0]} takes {wanted} comparisons, this check has {found}")
        if (self.files is not None) != ((self.mode is None) != (self.owner is None)):
            raise ValueError("files goes with either mode or owner")
        return self

    def accepts(self, value: Value | list[str] | None) -> bool:
        """Whether what was found is as it is to be; None is what is not set."""
        if self.unset is not None:
            return value is None
        if self.lacks is not None:
            return self.lacks not in _listed(value)
        if value is None:
            return False
        if self.has is not None:
            return self.has in _listed(value)
        if self.within is not None:
            return bool(_listed(value)) and set(_listed(value)) <= set(self.within)
        if self.least is not None:
            return isinstance(value, int | str) and int(value) >= self.least
        return value == self.same


class Row(BaseModel):
    """A row of the benchmark."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    number: str
    title: str
    result: Literal["pass", "deviation", "absent", "yours"]
    reason: str = ""
    checks: tuple[Check, ...] = ()

    @property
    def group(self) -> str:
        """The number of the group that it stands in."""
        return self.number if self.number.count(".") == 0 else self.number.rpartition(".")[0]

    @model_validator(mode="after")
    def _is_held(self) -> Self:
        if self.result == "pass" and not self.checks:
            raise ValueError(f"{self.number} passes without a check")
        if self.result in ("deviation", "absent") and not self.reason:
            raise ValueError(f"{self.number} has no reason")
        if self.result == "yours" and self.checks:
            raise ValueError(f"{self.number} is yours and is checked")
        return self


class Benchmark(BaseModel):
    """All of ``fixtures/cis.toml``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    groups: dict[str, str]
    row: tuple[Row, ...]


def load() -> Benchmark:
    """Raises pydantic's ValidationError."""
    return Benchmark.model_validate(tomllib.loads(LIST.read_text(encoding="utf-8")))


def _field(name: str) -> str:
    return "same" if name == "is" else name


def _listed(value: Value | list[str] | None) -> list[str]:
    if isinstance(value, list):
        return value
    return [] if value is None else str(value).split(",")


_HEAD = f"""# CIS Kubernetes Benchmark

What becomes of each row of the CIS Kubernetes Benchmark {VERSION} on a new node with the payload
`upstream` and no settings of its own. `scenarios/hardening/test_cis.py` checks a running node: a
row that passes here and does not there fails by its number, and so does a deviation that is none.
This page is made of `fixtures/cis.toml` by `./noxw -s docs -- --renew`; titles are in the project's
words. [security.md](security.md#kubernetes) explains the settings.

| result | meaning |
|---|---|
| pass | checked on a running node |
| deviation | the node does otherwise, for the reason beside it |
| absent | the node has nothing that the row is about; what takes its place is checked |
| yours | what you run decides |
"""


def render() -> str:
    """docs/cis.md."""
    return "\n".join(_lines(load())) + "\n"


def _lines(benchmark: Benchmark) -> Iterator[str]:
    yield _HEAD
    results = [row.result for row in benchmark.row]
    counted = (f"{results.count(name)} {name}" for name in ("pass", "deviation", "absent", "yours"))
    yield f"Of {len(results)} rows: {', '.join(counted)}."
    for group, title in benchmark.groups.items():
        yield f"\n## {group} {title}\n"
        yield "| row | what | result | checked, and why |"
        yield "|---|---|---|---|"
        for row in benchmark.row:
            if row.group == group:
                notes = [*_told(row), *([row.reason] if row.reason else [])]
                yield f"| {row.number} | {row.title} | {row.result} | {'; '.join(notes)} |"


def _told(row: Row) -> Iterator[str]:
    if row.result == "deviation":
        return
    seen = set()
    for check in row.checks:
        if (text := _describe(check)) not in seen:
            seen.add(text)
            yield text


def _describe(check: Check) -> str:
    if check.files is not None:
        what = f"mode {check.mode}" if check.mode else "owner root"
        return f"{what} of `{check.files}`"
    if check.flag is not None:
        component, _, name = check.flag.partition(" ")
        return f"`{name}` of {component} {_compared(check)}"
    if check.kubelet is not None or check.proxy is not None:
        whose = "the kubelet" if check.kubelet else "kube-proxy"
        return f"`{check.kubelet or check.proxy}` of {whose} {_compared(check)}"
    if check.http is not None:
        return f"`{check.http}` answers {check.same} to anybody"
    if check.closed is not None:
        return f"nothing listens on port {check.closed}"
    if check.denied is not None:
        return f"an account without rights may not {check.denied}"
    if check.pod is not None:
        return "the API server refuses such a pod"
    if check.object is not None:
        return f"`{check.object}` is there"
    if check.admins is not None:
        return f"bindings of cluster-admin: `{'`, `'.join(check.admins)}`"
    return f"a Secret in etcd begins with `{check.secrets}`"


def _compared(check: Check) -> str:
    if check.unset is not None:
        return "is not set"
    if check.has is not None:
        return f"has `{check.has}`"
    if check.lacks is not None:
        return f"has no `{check.lacks}`"
    if check.within is not None:
        return "has none but suites with forward secrecy and authenticated encryption"
    if check.least is not None:
        return f"is at least {check.least}"
    return f"is `{str(check.same).lower() if isinstance(check.same, bool) else check.same}`"
