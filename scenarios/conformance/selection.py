"""Which of Kubernetes' conformance tests a run takes, and why it leaves out others."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from product.errors import KubesoloError

LEFT_OUT = Path(__file__).resolve().parents[2] / "fixtures/conformance.toml"
_AREA = re.compile(r"\[(sig-[a-z-]+)\]")


class SelectionError(KubesoloError):
    """Tests cannot be chosen as asked."""

    exit_code = 2


class LeftOut(BaseModel):
    """Tests that are not run: those whose name ``pattern`` is found in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pattern: str = Field(min_length=1)
    reason: str = Field(min_length=1)


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    left_out: tuple[LeftOut, ...] = ()


class Selection(NamedTuple):
    """Names of tests: to be run, in order, and left out, with reasons."""

    chosen: tuple[str, ...]
    left_out: Mapping[str, str]


def load_left_out(path: Path = LEFT_OUT) -> tuple[LeftOut, ...]:
    """Read the file. Raises SelectionError that says where it is wrong."""
    try:
        found = _Document.model_validate(tomllib.loads(path.read_text())).left_out
        for one in found:
            re.compile(one.pattern)
    except (OSError, ValueError, re.error) as error:
        words = str(error)
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            words = f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
        raise SelectionError(
            f"cannot read which tests are left out, in {path}: {words}",
            hint="each [[left_out]] has a pattern, a regular expression, and a reason",
        ) from None
    return found


def select(
    names: Sequence[str],
    left_out: Sequence[LeftOut],
    *,
    focus: str | None = None,
    limit: int | None = None,
    passed: frozenset[str] = frozenset(),
) -> Selection:
    """Of ``names`` those that ``focus`` is found in, at most ``limit``, without ``passed`` ones.

    Raises SelectionError for a pattern of ``left_out`` that fits no test, so that none outlives its
    test, and where nothing is left to be chosen.
    """
    reasons: dict[str, str] = {}
    for one in left_out:
        found = [name for name in names if re.search(one.pattern, name)]
        if not found:
            raise SelectionError(
                f"no conformance test fits the pattern {one.pattern!r} of what is left out",
                hint=f"correct it in {LEFT_OUT.name}, or remove it: the test may be gone",
            )
        reasons |= {name: one.reason for name in found if name not in reasons}
    try:
        wanted = [name for name in names if focus is None or re.search(focus, name)]
    except re.error as error:
        raise SelectionError(f"--focus {focus!r} is no regular expression: {error}") from None
    if not wanted:
        raise SelectionError(
            f"--focus {focus!r} is found in no name of the {len(names)} conformance tests",
            hint=f"names begin with {', '.join(f'[{area}]' for area in areas(names))}",
        )
    possible = [name for name in wanted if name not in reasons]
    if not possible:
        raise SelectionError(
            f"all {len(wanted)} tests that --focus {focus!r} is found in are left out: "
            f"{reasons[wanted[0]]}"
        )
    chosen = possible if limit is None else spread(possible, limit)
    return Selection(tuple(name for name in chosen if name not in passed), reasons)


def spread(names: Sequence[str], limit: int) -> list[str]:
    """At most ``limit`` of ``names``, always the same ones, of each area by its share."""
    ordered = sorted(names, key=lambda name: (area(name), name))
    count = min(limit, len(ordered))
    kept = {ordered[(2 * number + 1) * len(ordered) // (2 * count)] for number in range(count)}
    return [name for name in names if name in kept]


def area(name: str) -> str:
    """The interest group that a test belongs to, such as ``sig-node``."""
    found = _AREA.match(name)
    return found[1] if found else "other"


def areas(names: Sequence[str]) -> list[str]:
    """All areas, the largest first."""
    return [name for name, _ in Counter(area(name) for name in names).most_common()]


def expression(names: Sequence[str]) -> str:
    """For ginkgo's focus: a regular expression of Go that is found in exactly these names."""
    quoted = (re.sub(r"([\\.+*?()|\[\]{}^$])", r"\\\1", name) for name in names)
    return f"({'|'.join(quoted)})$"
