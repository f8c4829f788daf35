"""Lines for who watches a run: pytest keeps what tests print, and a build takes minutes."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import TextIO, cast

import pytest

from product.image import progress

_STDERR = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    """Remember where standard error leads while pytest does not capture it.

    That of a worker of xdist is the one of the whole run.
    """
    config.stash[_STDERR] = os.dup(2)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Let go of it."""
    if (descriptor := config.stash.get(_STDERR, None)) is not None:
        os.close(descriptor)


class _Between(io.TextIOBase):
    """In between the dots of pytest, which never end a line: an outermost step begins one."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, text: str) -> int:
        begin = "\n" if text.startswith("> ") else ""
        os.write(self._descriptor, f"{begin}{text}".encode())
        return len(text)


@pytest.fixture(scope="session")
def builds_shown(request: pytest.FixtureRequest) -> Iterator[None]:
    """From here on the steps of the image builder are told while they run."""
    between = _Between(request.config.stash[_STDERR])
    with progress.shown_on(cast(TextIO, between)):
        yield
