"""The machines of this host that run now, of every run that has the same cache.

A machine's folder holds ``machine.json``: ``schema``, ``name``, ``arch``, ``artefacts``, ``pid``
(of its runner); and while its scenario is paused ``paused.json``: ``test``, ``failure``, ``until``
(seconds since the epoch, or null).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.qemu.stored import is_free

PAUSED = "paused.json"
_PREFIX = "machine-"


@dataclass(frozen=True, slots=True)
class Running:
    """A machine by its folder; ``paused`` is what ``paused.json`` says, None while it runs on."""

    folder: Path
    name: str
    arch: str
    artefacts: Path
    paused: dict[str, Any] | None

    @property
    def id(self) -> str:
        """What tells it from all others on this host."""
        return identity(self.folder)


def identity(folder: Path) -> str:
    """The short name of a machine's folder."""
    return folder.name.removeprefix(_PREFIX)


def running(runs: Path) -> list[Running]:
    """The machines below ``runs``, in the order of their start."""
    return sorted(_running(runs), key=lambda machine: _time(machine.folder))


def _running(runs: Path) -> Iterator[Running]:
    for folder in runs.glob(f"{_PREFIX}*"):
        told = _read(folder / "machine.json")
        if told is not None and not is_free(folder):
            yield Running(
                folder,
                str(told.get("name")),
                str(told.get("arch")),
                Path(str(told.get("artefacts"))),
                _read(folder / PAUSED),
            )


def pick(machines: Sequence[Running], word: str) -> Running:
    """The machine that a word means: its id, its name, its folder, or that of its evidence or of
    its scenario's. Raises HarnessError where that is none or several."""
    found = [one for one in machines if one.id == word]
    path = Path(word).absolute()
    found = found or [
        one
        for one in machines
        if word == one.name
        or path in (one.folder, one.artefacts, one.artefacts.parent)
        or word == one.artefacts.parent.name
    ]
    if len(found) == 1:
        return found[0]
    what = f"{len(found)} machines are" if found else "no machine that runs is"
    names = ", ".join(f"{one.id} ({one.name} of {one.artefacts.parent.name})" for one in machines)
    raise HarnessError(
        f"{what} called {word!r}",
        hint=f"those that run: {names}" if names else "none runs now: start a scenario first",
    )


def _read(path: Path) -> dict[str, Any] | None:
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def _time(folder: Path) -> float:
    with contextlib.suppress(OSError):
        return (folder / "machine.json").stat().st_mtime
    return 0.0
