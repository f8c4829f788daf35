"""Errors of first-boot configuration."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from product.errors import KubesoloError

# A file of nothing but errors is not worth more lines than this.
MAX_PROBLEMS = 100


class Problem(NamedTuple):
    """Something to say of one place of a file; lines and columns count from 1.

    ``key`` is the dotted path of the value (``write_files[0].path``), empty where the file as a
    whole, or its syntax, is meant.
    """

    file: str
    line: int
    column: int
    key: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}"
        return f"{where}: {self.key}: {self.message}" if self.key else f"{where}: {self.message}"


def in_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """By line and column."""
    return tuple(sorted(problems, key=lambda p: (p.line, p.column, p.key, p.message)))


class CloudInitError(KubesoloError):
    """First-boot configuration that cannot be used."""


class InvalidFileError(CloudInitError):
    """A file with faults: all of them, in the order of its lines."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        ordered = in_order(problems)
        self.problems = ordered[:MAX_PROBLEMS]
        lines = [str(problem) for problem in self.problems]
        if len(ordered) > MAX_PROBLEMS:
            lines.append(f"{ordered[0].file}: and {len(ordered) - MAX_PROBLEMS} errors more")
        super().__init__("\n".join(lines), hint="correct the file: docs/configuration.md")


class Faults(ValueError):
    """Several faults of one value, for validators: the path below the value, and the message."""

    def __init__(self, faults: Sequence[tuple[tuple[str | int, ...], str]]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(message for _, message in faults))
