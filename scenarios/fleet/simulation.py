"""How a release comes to many nodes: the agent's own schedule, identity and gates, time at once.

Each node is a folder with a name of its own. Nothing is downloaded: what is measured is when a node
would begin to, and how many do so together.
"""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from product.agent.config import Config, load_config
from product.agent.node import Node
from product.agent.services.timer import into_window, seconds_until
from product.agent.system.clock import Clock
from product.agent.system.identity import node_identity
from product.agent.system.paths import Paths
from product.agent.trust.client import TrustedRelease
from product.agent.update.gates import GATES, REFUSE, GateContext
from product.manifest import Manifest
from product.terms import Terms

# 2026-12-01 08:00 UTC: when the release is published. Nodes were started within the day before.
PUBLISHED = 1_796_112_000.0
DAY = 86_400.0
# Gates that depend on the time, and that a folder can answer.
_GATES = ("maintenance_window", "rollout")
# A node that has not begun after so long never will.
_LONGEST = 30 * DAY
_SEED = 1


@dataclass(frozen=True, slots=True)
class Step:
    """From ``hours`` after the publication on the release is for ``percent`` of the nodes."""

    hours: float
    percent: int


@dataclass(frozen=True, slots=True)
class Arrival:
    """Seconds from the publication until nodes begin, in order, and the most of one minute."""

    seconds: tuple[float, ...]
    busiest_minute: int

    @property
    def last(self) -> float:
        """Seconds until the last node begins."""
        return self.seconds[-1]


class _Simulated(Clock):
    """A clock in UTC that a simulation sets."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return self.seconds

    def local_minute(self, at: float | None = None) -> int:
        return int(self.seconds if at is None else at) // 60 % 1440


class _Member:
    """One node of the fleet."""

    def __init__(self, folder: Path, number: int, text: str) -> None:
        self.paths = Paths(str(folder))
        for path, content in (
            (self.paths.hostname, f"edge-{number:03}\n"), (self.paths.config, text)
        ):  # fmt: skip
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text(content)
        self.clock = _Simulated()
        self.node = Node(self.paths, clock=self.clock)
        self.config: Config = load_config(self.paths.config)
        self.identity = node_identity(self.paths)

    def begins(self, started: float, steps: Sequence[Step], release: TrustedRelease) -> float:
        """When this node, started at ``started``, passes the gates. Raises RuntimeError."""
        self.clock.seconds = started
        first = True
        while self.clock.seconds < PUBLISHED + _LONGEST:
            seconds = seconds_until(self.config, self.identity, first=first)
            assert seconds is not None, "the fleet has a schedule"
            self.clock.seconds += into_window(self.node, self.config, self.identity, seconds)
            first = False
            if self.clock.seconds >= PUBLISHED and self._passes(steps, release):
                return self.clock.seconds
        raise RuntimeError(f"{self.paths.root} did not begin within {_LONGEST / DAY:.0f} days")

    def _passes(self, steps: Sequence[Step], release: TrustedRelease) -> bool:
        hours = (self.clock.seconds - PUBLISHED) / 3600
        percent = max(step.percent for step in steps if step.hours <= hours)
        offered = release._replace(terms=Terms(percent=percent))
        context = GateContext(self.node, self.config, release=offered)
        gates = [gate for gate in GATES if gate.name in _GATES]
        return all(gate.evaluate(context).result != REFUSE for gate in gates)


def simulate(nodes: int, settings: str, steps: Sequence[Step]) -> Arrival:
    """How a release comes to ``nodes`` nodes with the update.conf ``settings``."""
    chance = random.Random(_SEED)
    manifest = Manifest("0.2.0", "x86_64", ())
    release = TrustedRelease(
        manifest=manifest, manifest_bytes=manifest.to_bytes(), digest="a" * 64, version="0.2.0",
        channel="stable", architecture="x86_64", min_compatible_version=None, release_date=None,
        notes="",
    )  # fmt: skip
    found = []
    with tempfile.TemporaryDirectory(prefix="kubesolo-fleet-") as folder:
        for number in range(nodes):
            member = _Member(Path(folder, str(number)), number, settings)
            started = PUBLISHED - chance.random() * DAY
            found.append(member.begins(started, steps, release) - PUBLISHED)
    minutes = Counter(int(seconds // 60) for seconds in found)
    return Arrival(tuple(sorted(found)), max(minutes.values()))
