"""The boot environment blocks of ``fixtures/boot-environments.toml``."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

_TABLE = Path(__file__).parents[3] / "fixtures/boot-environments.toml"


@dataclass(frozen=True, slots=True)
class Sample:
    """One block, and what is to be found in it."""

    name: str
    data: bytes
    valid: bool
    odd: bool


def samples() -> dict[str, Sample]:
    """All of them by name."""
    with _TABLE.open("rb") as file:
        found = [_sample(**entry) for entry in tomllib.load(file)["block"]]
    return {sample.name: sample for sample in found}


def _sample(
    name: str,
    content: str,
    valid: bool,
    padding: str = "#",
    size: int = 1024,
    tail: str = "",
    odd: bool = False,
) -> Sample:
    data = content.encode("latin-1")
    if padding:
        data = data.ljust(size, padding.encode("latin-1"))
    return Sample(name, data + tail.encode("latin-1"), valid, odd)
