"""The host's cores and memory, shared by every process that starts machines.

A lease is an entry in one small file under a lock. A process that wants more than is left queues:
it leaves a named pipe that a releasing process writes into, and watches the leaseholders' process
descriptors, so that neither a release nor a death is missed and nothing is polled.

Machines with several processors do not share cores with each other: two that each want all of two
cores boot four times as slowly, because processors spin while they wait for one that has no turn.
They leave a good part of their processors idle, though, so that beside machines with one processor,
which give way to them (MachineSpec.nice), each counts half. Half as much again as there are cores
is given out: a machine waits for its disk, its timers or its test a third of the time.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import json
import os
import select
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from harness.deadline import Deadline
from harness.errors import DeadlineError, PoolError
from harness.qemu.process import alive, start_time

# What the rest of the host keeps for itself.
_MEMORY_SHARE = 0.8
# Seconds that the place of a machine with several processors is kept for the next of its kind: the
# others would take it between one scenario and the next, and that one would wait for their ends.
_KEPT = 5.0


class _Entry(TypedDict):
    """One lease or one place in the queue, and the process that it belongs to."""

    ticket: str
    pid: int
    started: int
    cores: int
    mib: int
    further: bool


@dataclass(frozen=True, slots=True)
class Budget:
    """What all machines together may take."""

    cores: int
    mib: int

    @classmethod
    def of_host(cls) -> Budget:
        """This process's cores and four fifths of the memory that is available now."""
        available = 0
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    available = int(line.split()[1]) // 1024
        return cls(len(os.sched_getaffinity(0)), int(available * _MEMORY_SHARE))


class Pool:
    """The budget kept in ``directory``; the first process to come decides how large it is."""

    _numbers = itertools.count()

    def __init__(self, directory: Path, budget: Budget | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._budget = budget

    @contextlib.contextmanager
    def lease(
        self, cores: int, mib: int, deadline: Deadline, *, further: bool = False
    ) -> Iterator[None]:
        """Hold ``cores`` and ``mib`` within this scope, in the order of asking; but a machine with
        several processors that waits for its like is passed by those with one, and passes those
        that wait for the place that is kept for it.

        More cores than the host has are allowed to a machine that runs alone. ``further`` is for
        who holds a lease already and gives it back only after this one: it waits for memory alone,
        ahead of all others, because two such holders would wait for each other's cores for ever.
        Raises PoolError where the host can never give as much memory, DeadlineError.
        """
        ticket = f"{os.getpid()}-{next(self._numbers)}"
        self._acquire(ticket, cores, mib, deadline, further)
        try:
            yield
        finally:
            with self._state() as state:
                state["leases"] = [e for e in state["leases"] if e["ticket"] != ticket]
                if cores > 1:
                    state["kept"] = time.monotonic() + _KEPT

    def _acquire(
        self, ticket: str, cores: int, mib: int, deadline: Deadline, further: bool
    ) -> None:
        entry = _Entry(
            ticket=ticket,
            pid=os.getpid(),
            started=start_time(os.getpid()) or 0,
            cores=cores,
            mib=mib,
            further=further,
        )
        path = self._directory / f"{ticket}.wake"
        os.mkfifo(path)
        # Open for both, so that it never reports an end while nobody writes.
        pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            with self._state() as state:
                self._check(entry, state)
                state["queue"].insert(0 if further else len(state["queue"]), entry)
            while not self._granted(entry):
                self._wait(pipe, deadline, entry)
        finally:
            with self._state() as state:
                state["queue"] = [e for e in state["queue"] if e["ticket"] != ticket]
            os.close(pipe)
            path.unlink(missing_ok=True)

    def _check(self, entry: _Entry, state: dict[str, Any]) -> None:
        if entry["mib"] > state["mib"]:
            raise PoolError(
                f"a machine needs {entry['mib']} MiB, this host has {state['mib']} MiB for all",
                hint="use a host with more memory, or a smaller machine",
            )

    def _granted(self, entry: _Entry) -> bool:
        """Take the lease if it is this entry's turn and there is room."""
        with self._state() as state:
            if _next(state) != entry:
                return False
            state["queue"].remove(entry)
            state["leases"].append(entry)
            return True

    def _wait(self, pipe: int, deadline: Deadline, entry: _Entry) -> None:
        """Return when something may have changed. Raises DeadlineError."""
        with self._state() as state:
            before = [e for e in (*state["leases"], *state["queue"]) if e != entry]
            kept = _kept_for(state)
        with contextlib.ExitStack() as stack:
            watched = [pipe]
            for pid in {other["pid"] for other in before} - {os.getpid()}:
                try:
                    descriptor = os.pidfd_open(pid)
                except ProcessLookupError:
                    return  # Gone already: look again.
                stack.callback(os.close, descriptor)
                watched.append(descriptor)
            limit = min(deadline.remaining, kept or deadline.remaining)
            if not select.select(watched, [], [], limit)[0] and not deadline.remaining:
                raise DeadlineError(
                    f"waited {deadline.seconds:.0f} s for {entry['cores']} cores and "
                    f"{entry['mib']} MiB; processes {sorted({e['pid'] for e in before})} have them"
                )
        with contextlib.suppress(BlockingIOError):
            os.read(pipe, 4096)

    @contextlib.contextmanager
    def _state(self) -> Iterator[dict[str, Any]]:
        """The state under its lock; without dead owners' entries. A change wakes every waiter."""
        with (self._directory / "pool.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            path = self._directory / "pool.json"
            try:
                state = json.loads(path.read_text())
            except (OSError, ValueError):
                state = {}
            leases = [e for e in state.get("leases", []) if _lives(e)]
            queue = [e for e in state.get("queue", []) if _lives(e)]
            for dead in (e for e in state.get("queue", []) if e not in queue):
                (self._directory / f"{dead['ticket']}.wake").unlink(missing_ok=True)
            if not leases and not queue:
                # Nobody is there: measure the host anew.
                budget = self._budget or Budget.of_host()
                state = {"cores": budget.cores, "mib": budget.mib, "kept": state.get("kept", 0.0)}
            state.update(leases=leases, queue=queue)
            before = json.dumps(state)
            yield state
            after = json.dumps(state)
            partial = path.with_suffix(".part")
            partial.write_text(after)
            partial.replace(path)
            if after != before:
                self._wake(state["queue"])

    def _wake(self, queue: list[_Entry]) -> None:
        for entry in queue:
            path = self._directory / f"{entry['ticket']}.wake"
            try:
                pipe = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENXIO):
                    raise
                continue
            with contextlib.suppress(BlockingIOError):
                os.write(pipe, b"x")
            os.close(pipe)


def _next(state: dict[str, Any]) -> _Entry | None:
    """Whose turn it is in the queue."""
    leases: list[_Entry] = state["leases"]
    cores: int = state["cores"]
    for entry in state["queue"]:
        after = [*leases, entry]
        several = sum(e["cores"] for e in after if e["cores"] > 1)
        single = sum(e["cores"] == 1 for e in after)
        free = entry["further"] or not leases
        wide = 1 < entry["cores"] <= cores
        if wide and several > cores and not free:
            continue  # Those behind it with one processor do not make it wait for longer.
        kept = not several and _kept_for(state) > 0
        if kept:
            several = cores
        room = free or (several <= cores and single + several / 2 <= cores + cores // 2)
        if kept and not room:
            continue  # The one that the place is kept for may be behind it.
        return entry if room and sum(e["mib"] for e in after) <= state["mib"] else None
    return None


def _kept_for(state: dict[str, Any]) -> float:
    """Seconds that the place of a machine with several processors is kept for yet."""
    left = float(state.get("kept", 0.0)) - time.monotonic()
    return left if 0.0 < left <= _KEPT else 0.0  # More is from before the host's last boot.


def _lives(entry: _Entry) -> bool:
    # A zombie holds nothing, and its descriptor says that it has ended.
    return alive(entry["pid"]) and start_time(entry["pid"]) == entry["started"]
