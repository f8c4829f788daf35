"""The table of mutations: ``fixtures/mutations.toml``."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from product.errors import KubesoloError
from product.image.recipe import Arch

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "fixtures" / "mutations.toml"
# Boot loader, firmware's keys, kernel and watchdog are others on each architecture.
_NATIVE = "images/boot/"
_USUAL = (Arch.AARCH64,)


class MutationError(KubesoloError):
    """A mutation cannot be read, applied or judged."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Edit(_Strict):
    """``old`` stands in ``file`` exactly once and becomes ``new``."""

    file: str
    old: str = Field(min_length=1)
    new: str

    def apply(self, root: Path) -> None:
        """Change the file below ``root``. Raises MutationError unless ``old`` is there once."""
        path = root / self.file
        try:
            text = path.read_text()
        except OSError as error:
            raise MutationError(f"cannot read {self.file}: {error.strerror}") from None
        found = text.count(self.old)
        if found != 1:
            raise MutationError(
                f"{self.file} holds the text to replace {found} times, not once: {self.old!r:.200}",
                hint=f"the product has changed: write the edit in {TABLE.name} anew",
            )
        path.write_text(text.replace(self.old, self.new))


@dataclass(frozen=True, slots=True, order=True)
class Case:
    """One scenario that must notice one mutation, on one architecture."""

    mutation: str
    scenario: str
    arch: str

    def __str__(self) -> str:
        return f"{self.mutation}: {self.scenario} ({self.arch})"


class Mutation(_Strict):
    """One way to break one promise.

    ``change`` says in words what the edits do. Several edits are one mutation where two defences
    stand behind one promise. ``scenarios`` are node ids below ``scenarios/`` without the
    architecture; each must fail. ``noticed_by`` is a regular expression, for all of them or for
    each by its name, that finds the scenario's own demand in what ``witness`` writes of the
    failure: the statements that led to it, then the error. ``archs`` says where it must be noticed;
    without it that is on both architectures for what lies below ``images/boot/``, else on one.
    """

    name: str = Field(pattern=r"^[a-z0-9-]+$")
    promise: str
    change: str
    scenarios: tuple[str, ...] = Field(min_length=1)
    noticed_by: str | dict[str, str]
    edit: tuple[Edit, ...] = Field(min_length=1)
    archs: tuple[Arch, ...] = ()

    @field_validator("noticed_by")
    @classmethod
    def _compiles(cls, value: str | dict[str, str]) -> str | dict[str, str]:
        for expression in (value,) if isinstance(value, str) else value.values():
            try:
                re.compile(expression)
            except re.error as error:
                raise ValueError(f"{expression!r} is no regular expression: {error}") from None
        return value

    @model_validator(mode="after")
    def _names_all(self) -> Self:
        if isinstance(self.noticed_by, dict) and set(self.noticed_by) != set(self.scenarios):
            raise ValueError(f"noticed_by of {self.name} names others than its scenarios")
        return self

    def demand(self, scenario: str) -> re.Pattern[str]:
        """What ``scenario`` must have failed at."""
        chosen = self.noticed_by if isinstance(self.noticed_by, str) else self.noticed_by[scenario]
        return re.compile(chosen)

    @property
    def required_archs(self) -> tuple[Arch, ...]:
        """The architectures on which it must be noticed."""
        if self.archs:
            return self.archs
        native = any(edit.file.startswith(_NATIVE) for edit in self.edit)
        return tuple(Arch) if native else _USUAL

    @property
    def files(self) -> tuple[str, ...]:
        """The files that it edits, each once."""
        return tuple(dict.fromkeys(edit.file for edit in self.edit))

    @property
    def cases(self) -> tuple[Case, ...]:
        """Every one that a release needs a result of."""
        return tuple(
            Case(self.name, scenario, arch.value)
            for arch in self.required_archs
            for scenario in self.scenarios
        )


class _Table(_Strict):
    mutation: tuple[Mutation, ...]


def load(path: Path = TABLE) -> tuple[Mutation, ...]:
    """Every mutation in the table's order. Raises MutationError."""
    try:
        table = _Table.model_validate(tomllib.loads(path.read_text()))
    except OSError as error:
        raise MutationError(f"cannot read {path}: {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:
        raise MutationError(f"{path} is not TOML: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise MutationError(f"{path}: {where}: {first['msg']}") from None
    names = [mutation.name for mutation in table.mutation]
    if double := {name for name in names if names.count(name) > 1}:
        raise MutationError(f"{path}: several mutations are called {', '.join(sorted(double))}")
    return table.mutation


def choose(mutations: Sequence[Mutation], words: Sequence[str]) -> list[Mutation]:
    """Those whose name contains one of ``words``, in the words' order; all without words.

    Raises MutationError where there is none.
    """
    found = {m.name: m for word in words or ("",) for m in mutations if word in m.name}
    chosen = list(found.values())
    if not chosen:
        raise MutationError(f"no mutation is called {' or '.join(words)}", hint="--list names them")
    return chosen
