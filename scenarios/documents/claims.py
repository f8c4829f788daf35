"""What holds each command: ``fixtures/documented-commands.toml``.

A claim names lines by page, by the name of their block and by a pattern, each of which may be left
out, and says what holds them: ``run`` (a test here runs them), ``test`` (that test or scenario
does what they say) or ``by_hand`` (why no test can). What no claim names must be ours, and its
options are looked up.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterable, Sequence
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, model_validator

from scenarios.documents import parsers
from scenarios.documents.commands import Line
from scenarios.documents.errors import DocumentError
from scenarios.documents.pages import ROOT

CLAIMS = ROOT / "fixtures/documented-commands.toml"


class Hold(StrEnum):
    """What holds a command."""

    RUN = "run"
    TEST = "test"
    OPTIONS = "options"
    BY_HAND = "by hand"


class Claim(BaseModel):
    """One entry; exactly one of ``run``, ``test`` and ``by_hand`` is given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    page: str | None = None
    block: str | None = None
    command: str | None = None
    run: bool = False
    test: str | None = None
    by_hand: str | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if self.run + (self.test is not None) + (self.by_hand is not None) != 1:
            raise ValueError("a claim has one of run, test and by_hand")
        if self.page is None and self.command is None:
            raise ValueError("a claim names a page, a command or both")
        return self

    @property
    def hold(self) -> Hold:
        """What it says."""
        return Hold.RUN if self.run else Hold.TEST if self.test else Hold.BY_HAND

    def fits(self, line: Line) -> bool:
        """Whether it speaks of ``line``."""
        return (
            self.page in (None, line.page)
            and self.block in (None, line.info)
            and (self.command is None or re.fullmatch(self.command, line.text) is not None)
        )


def read_claims(path: Path = CLAIMS) -> tuple[Claim, ...]:
    """The claims; pydantic's ValidationError for one that is none."""
    document = tomllib.loads(path.read_text())
    return tuple(Claim.model_validate(claim) for claim in document["claim"])


def claim_of(line: Line, claims: Iterable[Claim]) -> Claim | None:
    """The first claim that fits."""
    return next((claim for claim in claims if claim.fits(line)), None)


def hold(line: Line, claims: Sequence[Claim]) -> Hold:
    """What holds ``line``; raises DocumentError where nothing does, or an option is none."""
    claim = claim_of(line, claims)
    for words in line.commands():
        if parsers.is_ours(words):
            try:
                parsers.check(words)
            except DocumentError as error:
                raise DocumentError(f"{line.where}: {error.message}") from error
        elif claim is None:
            raise DocumentError(
                f"{line.where}: nothing holds the command {' '.join(words)!r}",
                hint=f"add a claim to {CLAIMS.relative_to(ROOT)}, or name the block for what it "
                "holds, as in ```text",
            )
    return claim.hold if claim else Hold.OPTIONS


def is_test(name: str, root: Path = ROOT) -> bool:
    """Whether ``PATH::FUNCTION`` is a test."""
    path, _, function = name.partition("::")
    return (root / path).is_file() and function in _tests(root / path)


@cache
def _tests(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text())
    return frozenset(
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    )
