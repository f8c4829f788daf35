"""How a test says that it is a scenario, in which tier, and for which machines."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, TypeVar

import pytest

T = TypeVar("T", bound=Callable[..., Any])

ANY = "any"
QEMU, LAB = "qemu", "lab"
BACKENDS = frozenset({QEMU, LAB})
CORE, FULL = "core", "full"
TIERS = (CORE, FULL)


def scenario(
    *,
    arch: str = ANY,
    backend: Collection[str] = BACKENDS,
    tier: str = FULL,
    core_arch: str = ANY,
    **machine: Any,
) -> Callable[[T], T]:
    """Mark a test as a scenario.

    ``arch`` is "x86_64", "aarch64" or "any", which runs it once for each that ``--arch`` selects;
    ``backend`` are the kinds of target it can run on; ``machine`` are fields of MachineSpec that
    differ from the defaults. ``tier`` "core" runs at every change, "full" in the matrix alone; with
    ``core_arch`` a core scenario belongs to the core on that architecture, to the matrix on both.
    Raises ValueError for a name that is none of these.
    """
    unknown = set(backend) - BACKENDS
    if unknown:
        raise ValueError(f"unknown backends {sorted(unknown)}; known are {sorted(BACKENDS)}")
    if tier not in TIERS:
        raise ValueError(f"unknown tier {tier!r}; known are {', '.join(TIERS)}")

    def mark(function: T) -> T:
        marks = pytest.mark.scenario(backend=frozenset(backend), tier=tier, core_arch=core_arch)
        marked: T = marks(function)
        if arch != ANY:
            marked = pytest.mark.arch(arch)(marked)
        if machine:
            marked = pytest.mark.machine(**machine)(marked)
        return marked

    return mark
