"""A state is booted: what the oracle foretold against what came."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.crash.epochs import Cut
from harness.errors import HarnessError
from harness.journal.boots import Ready
from scenarios.crash.boots import PANICS, Booted, _boot
from scenarios.crash.judge import Example
from scenarios.crash.oracle import Kind
from scenarios.local import Bench


class Played:
    """A node that comes up as told. Like a real one it knows no failures before it was started."""

    def __init__(self, slots: list[str], ready: Ready) -> None:
        self._slots, self._ready = slots, ready
        self._started = False

    @contextlib.contextmanager
    def expect_boots(self, count: int) -> Iterator[Any]:
        yield SimpleNamespace(slots=self._slots)
        assert count == len(self._slots)

    def power_on(self) -> None:
        self._started = True

    @contextlib.contextmanager
    def tolerating(self, *_: object) -> Iterator[None]:
        if not self._started:
            raise HarnessError("node was not started")
        yield

    def wait_ready(self) -> Ready:
        return self._ready

    def status(self) -> Any:
        return SimpleNamespace(
            update=SimpleNamespace(phase="idle"), boot=SimpleNamespace(data="persistent")
        )


def _booted(folder: Path, kind: Kind, slots: list[str], ready: Ready) -> Booted:
    node = Played(slots, ready)

    @contextlib.contextmanager
    def session(*_: object) -> Iterator[Any]:
        yield SimpleNamespace(node=lambda **_: node)

    image = folder / "state"
    image.touch()
    bench = cast(Bench, SimpleNamespace(session=session))
    return _boot(bench, Example(kind, "apply", Cut(1, 1)), image, 1 << 20, folder)


def _kind(version: str, env: str, slot: str) -> Kind:
    return Kind(slot, version, env, "0.1.0", "0.1.0", "", "clean", "idle", "nothing")


@pytest.mark.parametrize(
    ("kind", "slots", "ready"),
    [
        (_kind("0.1.0", "A3+", "A"), ["A"], Ready("0.1.0", "A")),
        (_kind("0.2.0", "B2-", "B"), ["B"], Ready("0.2.0", "B")),
        (_kind(PANICS, "B2-", "B"), ["B", "B", "A"], Ready("0.1.0", "A")),
    ],
)
def test_what_comes_as_foretold(tmp_path: Path, kind: Kind, slots: list[str], ready: Ready) -> None:
    assert _booted(tmp_path, kind, slots, ready).problem == ""


@pytest.mark.parametrize(
    ("slots", "ready", "problem"),
    [
        (["A"], Ready("0.2.0", "A"), "slots A instead of B"),
        (["B"], Ready("0.1.0", "B"), "0.1.0 instead of 0.2.0"),
        (["B"], Ready("0.2.0", "B", confirmed=False), "the slot is not confirmed"),
    ],
)
def test_what_comes_otherwise(tmp_path: Path, slots: list[str], ready: Ready, problem: str) -> None:
    assert _booted(tmp_path, _kind("0.2.0", "B2-", "B"), slots, ready).problem == problem
