"""How a test says that it is a scenario, and for which machines."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, TypeVar

import pytest

T = TypeVar("T", bound=Callable[..., Any])

ANY = "any"
BACKENDS = frozenset({"qemu", "lab"})


def scenario(
    *, arch: str = ANY, backend: Collection[str] = BACKENDS, **machine: Any
) -> Callable[[T], T]:
    """Mark a test as a scenario.

    ``arch`` is "x86_64", "aarch64" or "any", which runs it once for each that ``--arch`` selects;
    ``backend`` are the kinds of target it can run on; ``machine`` are fields of MachineSpec that
    differ from the defaults.
    """
    unknown = set(backend) - BACKENDS
    if unknown:
        raise ValueError(f"unknown backends {sorted(unknown)}; known are {sorted(BACKENDS)}")

    def mark(function: T) -> T:
        marked: T = pytest.mark.scenario(backend=frozenset(backend))(function)
        if arch != ANY:
            marked = pytest.mark.arch(arch)(marked)
        if machine:
            marked = pytest.mark.machine(**machine)(marked)
        return marked

    return mark
