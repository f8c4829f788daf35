"""What the machine has of that which may be set aside; the kubelet does not start beyond it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from product.agent.system.files import read_bounded
from product.node.paths import NodePaths

_MAX_BYTES = 64 * 1024
# The kubelet adds what it evicts pods for: 50 or 100 MiB of memory, 5 or 10 % of the disk.
_EVICTION_MEMORY = 100 << 20
_EVICTION_DISK = 0.1
_FACTORS = {
    "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40,
}  # fmt: skip


class Machine(NamedTuple):
    """``cpus`` are the numbers of those online; ``most`` has the largest reservation by resource.

    What is not known is None, or missing. Memory and disk are in bytes.
    """

    cpus: frozenset[int] | None = None
    most: Mapping[str, float] = {}

    def lacks_cpus(self, text: str) -> str | None:
        """Why the set ``text`` cannot be set aside; None where it can."""
        missing = sorted(cpu_set(text) - self.cpus) if self.cpus is not None else []
        if not missing:
            return None
        there = ", ".join(map(str, sorted(self.cpus or ())))
        return f"this machine has no CPU {missing[0]}; it has {there}"

    def exceeds(self, resource: str, text: str) -> str | None:
        """Why the quantity ``text`` of ``resource`` cannot be set aside; None where it can."""
        most = self.most.get(resource)
        if most is None or quantity(text) <= most:
            return None
        unit = most if resource in ("cpu", "pid") else most / (1 << 20)
        mib = "" if resource in ("cpu", "pid") else "Mi"
        return f"{text} is more than this machine can set aside: {int(unit)}{mib}"


def cpu_set(text: str) -> frozenset[int]:
    """The numbers of ``0-1,4``. Raises ValueError for a range that runs backwards."""
    found: set[int] = set()
    for part in text.split(","):
        low, _, high = part.partition("-")
        last = int(high or low)
        if int(low) > last:
            raise ValueError(f"the range {part} runs backwards")
        found.update(range(int(low), last + 1))
    return frozenset(found)


def quantity(text: str) -> float:
    """A quantity of Kubernetes, such as 250m or 1.5Gi."""
    digits = text.rstrip("mkMGTi")
    return float(digits) * _FACTORS.get(text[len(digits) :], 1)


def read_machine(paths: NodePaths) -> Machine:
    """What there is here; never fails."""
    most: dict[str, float] = {}
    cpus = None
    try:
        cpus = cpu_set(_text(paths.cpus))
        most["cpu"] = len(cpus)
    except ValueError:
        pass
    for line in _text(paths.memory).splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "MemTotal:" and words[1].isdigit():
            most["memory"] = int(words[1]) * 1024 - _EVICTION_MEMORY
    limits = [_text(path) for path in (paths.most_pids, paths.most_threads)]
    if numbers := [int(limit) for limit in limits if limit.isdigit()]:
        most["pid"] = min(numbers)
    try:
        status = os.statvfs(os.path.dirname(paths.data))
        most["ephemeral-storage"] = status.f_blocks * status.f_frsize * (1 - _EVICTION_DISK)
    except OSError:
        pass
    return Machine(cpus, most)


def _text(path: str) -> str:
    try:
        return read_bounded(path, _MAX_BYTES).decode("ascii", "replace").strip()
    except (OSError, ValueError):
        return ""
