"""The table of mutations: ``fixtures/mutations.toml``."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from product.errors import KubesoloError

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "fixtures" / "mutations.toml"


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


class Mutation(_Strict):
    """One way to break one promise.

    ``change`` says in words what the edits do. Several edits are one mutation where two defences
    stand behind one promise. ``scenarios`` are node ids below ``scenarios/`` without the
    architecture; each must fail. ``arch`` is given where only that machine shows it.
    """

    name: str = Field(pattern=r"^[a-z0-9-]+$")
    promise: str
    change: str
    scenarios: tuple[str, ...] = Field(min_length=1)
    edit: tuple[Edit, ...] = Field(min_length=1)
    arch: str | None = None

    @property
    def digest(self) -> str:
        """Names the content: a result counts for the mutation that it was made with."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


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
