"""A user's mistake is one message, also where a worker of pytest-xdist finds it.

pytest ends with a UsageError's message wherever it is raised. A worker that ends so says nothing:
the controller would show a traceback of its own. So a worker hands the message over.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from typing import Any

import pytest

_MESSAGE = "harness_usage_error"


@contextlib.contextmanager
def _handed_over(config: pytest.Config) -> Iterator[None]:
    try:
        yield
    except pytest.UsageError as error:
        output: dict[str, Any] | None = getattr(config, "workeroutput", None)
        if output is not None:
            output[_MESSAGE] = str(error)
        raise


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Hand over what is found while tests are collected."""
    with _handed_over(session.config):
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Hand over what is found while tests run."""
    with _handed_over(session.config):
        return (yield)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Let a worker's message end the run. Raises UsageError."""
    if message := (getattr(node, "workeroutput", None) or {}).get(_MESSAGE):
        raise pytest.UsageError(message)
