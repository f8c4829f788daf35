"""Steps that only bring a node to where a scenario begins."""

from __future__ import annotations

from collections.abc import Callable
from types import CodeType
from typing import Any, TypeVar

T = TypeVar("T", bound=Callable[..., Any])

_steps: set[CodeType] = set()


def set_up(step: T) -> T:
    """Mark ``step``: its failure is not the scenario's own, and notices no mutation."""
    _steps.add(step.__code__)
    return step


def is_set_up(code: CodeType) -> bool:
    """Whether ``code`` is that of a marked step."""
    return code in _steps
