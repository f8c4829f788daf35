"""A network that delays, loses, doubles and reorders what is sent over it."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

from harness.abilities import Ability
from harness.errors import HarnessError
from harness.faults.fault import Fault
from harness.faults.relay import Decision, Direction, Relay
from harness.qemu.machine import Machine

# How much later a frame comes that others shall overtake: some of a burst.
_BEHIND = 0.005


@dataclass(frozen=True, slots=True)
class Line:
    """How bad a line is, each way: ``latency`` in seconds, the others are shares of frames."""

    latency: float = 0.0
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0

    def __str__(self) -> str:
        shares = {"lost": self.loss, "doubled": self.duplicate, "overtaken": self.reorder}
        words = [f"{share * 100:g}% {name}" for name, share in shares.items() if share]
        if self.latency:
            words.append(f"{self.latency * 1000:g} ms late")
        return ", ".join(words)


class BadLine(Fault):
    """The machine's frames go over ``line``; it has fired once each part of it met a frame.

    Which frames that are is drawn with ``seed``.
    """

    ability = Ability.NETWORK_FAULTS

    def __init__(self, machine: Machine, line: Line, *, seed: int = 1) -> None:
        super().__init__(machine.journal, f"frames are {line}")
        if not str(line):
            raise HarnessError("a line without latency, loss, duplicates or disorder is no fault")
        self._line = line
        self._draw = random.Random(seed)
        self._counts: Counter[str] = Counter()
        self._relay = Relay(machine, self.decide)

    def arm(self) -> None:
        """Take the frames from QEMU."""
        self._relay.__enter__()

    def lift(self) -> None:
        """Let them go their own way. Raises HarnessError where the relay failed."""
        self._relay.__exit__(None, None, None)

    def look(self) -> tuple[int, str]:
        """How many frames the rarest of its parts met."""
        line, counts = self._line, self._counts
        parts = {
            "lost": line.loss, "doubled": line.duplicate,
            "overtaken": line.reorder, "late": line.latency,
        }  # fmt: skip
        met = {name: counts[name] for name, wanted in parts.items() if wanted}
        said = ", ".join(f"{count} {name}" for name, count in met.items())
        return min(met.values()), f"of {counts['all']} frames {said}"

    def decide(self, direction: Direction, frame: bytes) -> Decision:
        """What becomes of a frame."""
        line, draw = self._line, self._draw
        self._counts["all"] += 1
        if draw.random() < line.loss:
            self._counts["lost"] += 1
            return
        late = line.latency
        if late:
            self._counts["late"] += 1
        if draw.random() < line.reorder:
            self._counts["overtaken"] += 1
            late += _BEHIND
        yield late
        if draw.random() < line.duplicate:
            self._counts["doubled"] += 1
            yield late
