"""Fetching an artifact as a delta against the running slot's, where that is worth it.

Whatever goes wrong with a delta is said, and the whole artifact is fetched in the same attempt. A
delta is fetched like any artifact, so a power cut leaves its beginning in the passive slot, and the
next attempt goes on from there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from product.agent.config import Config
from product.agent.errors import AgentError, BusyError, as_state_error
from product.agent.node import Node
from product.agent.slots.store import SlotStore
from product.agent.slots.writer import Fetch
from product.agent.update.gates import room_needed
from product.deltas import Delta
from product.manifest import Artifact

if TYPE_CHECKING:
    from product.agent.trust.client import TrustedRelease

# What a link brings at least: a delta is to save time on it, 10 Mbit/s in bytes a second.
SLOWEST_LINK = 1_250_000
# What the system needs beside a delta's own memory, in bytes.
_SPARE = 24 * 1024 * 1024

Say = Callable[[str], None]
Note = Callable[[str, str, str | None], None]


class Chosen(NamedTuple):
    """Deltas by the artifact that they make; ``reason`` is why there are none, None where there
    are some or none were offered."""

    deltas: dict[str, Delta]
    reason: str | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """The names of their files in the passive slot."""
        return tuple(_file_name(delta) for delta in self.deltas.values())


def choose(node: Node, config: Config, store: SlotStore, release: TrustedRelease) -> Chosen:
    """The deltas of ``release`` that start from what the running slot holds, and may be used."""
    if not release.deltas:
        return Chosen({})
    if config.deltas == "no":
        return Chosen({}, "deltas=no in update.conf")
    if (config.server or "").startswith("disk:"):
        return Chosen({}, "the release comes from a disk")
    running = store.inspect(node.boot.slot).manifest
    if running is None:
        return Chosen({}, f"slot {node.boot.slot} does not say what it holds")
    held = {artifact.name: artifact.sha256 for artifact in running.artifacts}
    found = _smallest(release.deltas, held, release.manifest.artifacts)
    if not found:
        return Chosen({}, f"none starts from {running.version} as it runs here")
    from product.agent.slots.delta import MEMORY

    available = _available_memory(node)
    if available is not None and available < MEMORY + _SPARE:
        return Chosen({}, f"only {available >> 20} MiB of memory are available")
    need = room_needed(release.manifest) + max(delta.size for delta in found.values())
    have = store.capacity(node.boot.passive)
    if have < need:
        return Chosen({}, f"slot {node.boot.passive} has room for {have} bytes, not for {need}")
    return Chosen(found)


def _smallest(
    offered: Sequence[Delta], held: dict[str, str], artifacts: Sequence[Artifact]
) -> dict[str, Delta]:
    wanted = {artifact.name: artifact for artifact in artifacts}
    found: dict[str, Delta] = {}
    for delta in offered:
        artifact = wanted.get(delta.name)
        fits = (
            artifact is not None
            and delta.target == artifact.sha256
            and delta.source == held.get(delta.name)
            and delta.size < artifact.size
        )
        if fits and (delta.name not in found or delta.size < found[delta.name].size):
            found[delta.name] = delta
    return found


def _available_memory(node: Node) -> int | None:
    try:
        with open(f"{node.paths.proc}/meminfo") as file:
            for line in file:
                name, _, value = line.partition(":")
                if name == "MemAvailable":
                    return int(value.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


class DeltaFetch:
    """A Fetch that takes a delta where one was chosen, and ``fetch`` for everything else."""

    def __init__(
        self,
        store: SlotStore,
        chosen: Chosen,
        fetch: Fetch,
        *,
        say: Say,
        note: Note,
        interrupt: Callable[[], None],
    ) -> None:
        """``note(event, outcome, reason)`` writes into the history."""
        self._store = store
        self._chosen = chosen
        self._fetch = fetch
        self._say = say
        self._note = note
        self._interrupt = interrupt

    def __call__(self, artifact: Artifact, path: str) -> int:
        delta = self._chosen.deltas.get(artifact.name)
        if delta is None:
            return self._fetch(artifact, path)
        file = f"{os.path.dirname(path)}/{_file_name(delta)}"
        # A beginning without a delta beside it is that of the whole artifact, which goes on: the
        # delta failed in an earlier attempt, or was not wanted.
        if _size(path) and not os.path.exists(file):
            return self._fetch(artifact, path)
        try:
            return self._by_delta(delta, file, artifact, path)
        except BusyError:
            raise
        except (AgentError, OSError) as error:
            _remove(file)
            self._give_up(artifact, error)
        return self._fetch(artifact, path)

    def _by_delta(self, delta: Delta, file: str, artifact: Artifact, path: str) -> int:
        from product.agent.slots.delta import DeltaError, apply_delta

        self._fetch(Artifact(_file_name(delta), delta.size, delta.sha256), file)
        budget = (artifact.size - delta.size) / SLOWEST_LINK
        try:
            with self._store.running() as running:
                applied = apply_delta(
                    file,
                    running.path(artifact.name),
                    artifact,
                    path,
                    budget=budget,
                    interrupt=self._interrupt,
                )
        except (DeltaError, OSError) as error:
            # The beginning of the artifact is worth keeping; whatever else is there is not.
            if not (isinstance(error, DeltaError) and error.code == "delta-slow"):
                _remove(path)
            raise
        _remove(file)
        share = delta.size * 100 / artifact.size
        reason = (
            f"{artifact.name}: {delta.size} bytes fetched instead of {artifact.size} "
            f"({share:.1f} %), applied in {applied.seconds:.1f} s"
        )
        self._say(reason)
        self._note("delta", "applied", reason)
        return applied.checksum

    def _give_up(self, artifact: Artifact, error: AgentError | OSError) -> None:
        if isinstance(error, AgentError):
            reason = as_state_error(error)
        else:
            reason = f"delta-unreadable: {error.filename or artifact.name}: {error.strerror}"
        self._say(f"{artifact.name}: not by a delta, but as a whole: {reason}")
        self._note("delta", "failed", reason)


def _file_name(delta: Delta) -> str:
    return f"{delta.name}.{delta.sha256[:16]}.delta"


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
