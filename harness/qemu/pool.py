"""The host's cores and memory, shared by every process that starts machines.

A lease is an entry in one small file under a lock. A process that wants more than is left queues:
it leaves a named pipe that a releasing process writes into, and watches the leaseholders' process
descriptors, so that neither a release nor a death is missed and nothing is polled.

Machines with several processors do not share cores with each other: two that each want all of two
cores boot four times as slowly, because processors spin while they wait for one that has no turn.
They leave a good part of their processors idle, though, so that beside machines with one processor,
which give way to them (MachineSpec.nice), each counts half. Half as much again as there are cores
is given out: a machine waits for its disk, its timers or its test a third of the time.

Nobody who holds a lease may ask for another: two such holders would wait for each other.
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
from collections.abc import Iterator, Sequence
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
    """One lease or one place in the queue, and the process that it belongs to.

    ``several`` are the processors of its machines with more than one, ``single`` its machines with
    one.
    """

    ticket: str
    pid: int
    started: int
    several: int
    single: int
    mib: int


@dataclass(frozen=True, slots=True)
class Need:
    """What one machine takes."""

    cores: int
    mib: int


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
    def lease(self, machines: Sequence[Need], deadline: Deadline) -> Iterator[None]:
        """Hold what ``machines`` need within this scope, all at once, in the order of asking; but
        a machine with several processors that waits for its like is passed by those with one, and
        passes those that wait for the place that is kept for it.

        More cores than the host has are allowed to who runs alone. Raises PoolError where the host
        can never give as much memory, DeadlineError.
        """
        entry = _Entry(
            ticket=f"{os.getpid()}-{next(self._numbers)}",
            pid=os.getpid(),
            started=start_time(os.getpid()) or 0,
            several=sum(machine.cores for machine in machines if machine.cores > 1),
            single=sum(machine.cores == 1 for machine in machines),
            mib=sum(machine.mib for machine in machines),
        )
        self._acquire(entry, len(machines), deadline)
        try:
            yield
        finally:
            with self._state() as state:
                state["leases"] = [e for e in state["leases"] if e["ticket"] != entry["ticket"]]
                if entry["several"]:
                    state["kept"] = time.monotonic() + _KEPT

    def _acquire(self, entry: _Entry, machines: int, deadline: Deadline) -> None:
        path = self._directory / f"{entry['ticket']}.wake"
        os.mkfifo(path)
        # Open for both, so that it never reports an end while nobody writes.
        pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            with self._state() as state:
                if entry["mib"] > state["mib"]:
                    need = "a machine needs" if machines == 1 else f"{machines} machines need"
                    raise PoolError(
                        f"{need} {entry['mib']} MiB, this host has {state['mib']} MiB for all",
                        hint="use a host with more memory, or smaller or fewer machines",
                    )
                state["queue"].append(entry)
            while not self._granted(entry):
                self._wait(pipe, deadline, entry)
        finally:
            with self._state() as state:
                state["queue"] = [e for e in state["queue"] if e["ticket"] != entry["ticket"]]
            os.close(pipe)
            path.unlink(missing_ok=True)

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
                cores, holders = entry["several"] + entry["single"], {e["pid"] for e in before}
                raise DeadlineError(
                    f"waited {deadline.seconds:.0f} s for {cores} cores and {entry['mib']} MiB; "
                    f"processes {sorted(holders)} have them"
                )
        with contextlib.suppress(BlockingIOError):
            os.read(pipe, 4096)

    @contextlib.contextmanager
    def _state(self) -> Iterator[dict[str, Any]]:
        """The state under its lock; without dead owners' entries. A change wakes every waiter."""
        with (self._directory / "pool.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            path = self._directory / "machines.json"
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
        several = sum(e["several"] for e in after)
        single = sum(e["single"] for e in after)
        free = not leases
        wide = 0 < entry["several"] <= cores
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
