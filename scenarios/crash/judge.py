"""Every state of every phase through the oracle, each once."""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from harness.crash.disk import Disk
from harness.crash.epochs import Cut, Epoch, Fingerprints, epochs
from harness.crash.log import Write, read_log
from product.disk.gpt import Disk as TableDisk
from product.disk.gpt import read_table
from product.image.tools import HostTools
from scenarios.crash.layout import Layout, Part
from scenarios.crash.oracle import Kind, Oracle, State, Verdict
from scenarios.crash.record import Phase, Recording

MAX_FAULTS = 20


@dataclass(slots=True)
class Tally:
    """What came out of one phase."""

    name: str
    epochs: int = 0
    writes: int = 0
    cuts: int = 0
    states: int = 0
    seconds: float = 0.0
    unbootable: int = 0
    ambiguous: int = 0
    by_cut: Counter[str] = field(default_factory=Counter)
    kinds: Counter[Kind] = field(default_factory=Counter)
    faults: list[tuple[str, str]] = field(default_factory=list)


@dataclass(slots=True)
class Example:
    """A state of a kind, to boot it: the phase, and where in it."""

    kind: Kind
    phase: str
    cut: Cut


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of a run: each phase, a state of each kind, and how often each part was judged anew."""

    tallies: list[Tally]
    examples: list[Example]
    asked: dict[str, int]


def layout_of(recording: Recording) -> Layout:
    """Where the partitions are, on the largest disk that the recording had."""
    with recording.disk.open("rb") as stream:
        table = read_table(TableDisk(stream.fileno(), str(recording.disk)))
    regions = {n: (p.first * 512, (p.last + 1) * 512) for n, p in table.partitions.items()}
    regions[4] = (regions[4][0], recording.disk_bytes - (1 << 20))
    return Layout(regions, recording.disk_bytes)


def survey(recording: Recording, layout: Layout, scratch: Path) -> None:
    """Fill ``layout`` by a look at the disk after each flush."""
    disk = Disk(recording.disk, recording.disk_bytes, scratch / "survey")
    try:
        layout.look(disk, layout.regions)
        for phase in recording.phases:
            for writes in recorded_epochs(recording, phase):
                for write in writes:
                    disk.write(write)
                layout.look(disk, layout.touched(writes))
    finally:
        disk.close()
        (scratch / "survey").unlink()


def recorded_epochs(recording: Recording, phase: Phase) -> Iterator[list[Write]]:
    """The writes of a phase, flush by flush."""
    return epochs(read_log(recording.log(phase.log), phase.begin, phase.end))


def judge(
    recording: Recording,
    layout: Layout,
    oracle: Oracle,
    scratch: Path,
    *,
    bound: int,
    wanted: Callable[[str], bool],
    say: Callable[[str], None],
    all_phases: bool = True,
) -> Outcome:
    """Judge the states of each wanted phase; unless of all, then up to the first faults of one."""
    disk = Disk(recording.disk, recording.disk_bytes, scratch / "disk")
    seen: set[Fingerprints] = set()
    known: set[Kind] = set()
    examples: list[Example] = []
    tallies: list[Tally] = []
    now: Fingerprints = (0,) * len(Part)
    number = 0
    try:
        for phase in recording.phases:
            tally = Tally(phase.name)
            begun = time.monotonic()
            oracle.disk_bytes = recording.sizes[phase.log]
            for writes in recorded_epochs(recording, phase):
                number += 1
                epoch = Epoch(number, writes, disk, layout.part, len(Part))
                if wanted(phase.name):
                    tally.epochs += 1
                    tally.writes += len(writes)
                    for prints, cut in epoch.states(now, bound):
                        tally.cuts += 1
                        if prints in seen:
                            continue
                        seen.add(prints)
                        tally.states += 1
                        tally.by_cut[cut.kind] += 1
                        verdict = oracle.judge(prints, State(epoch, cut, disk, layout))
                        _count(tally, verdict, cut)
                        if verdict.kind is not None and verdict.kind not in known:
                            known.add(verdict.kind)
                            examples.append(Example(verdict.kind, phase.name, cut))
                        if len(tally.faults) == MAX_FAULTS and not all_phases:
                            # Where everything is wrong, each state has other content to read.
                            break
                if tally.faults and not all_phases:
                    break
                now = epoch.end(now)
                for write in writes:
                    disk.write(write)
            tally.seconds = time.monotonic() - begun
            if tally.epochs:
                tallies.append(tally)
                say(
                    f"{tally.name}: {tally.states} states of {tally.cuts} cuts, "
                    f"{tally.unbootable} unbootable, {tally.ambiguous} ambiguous, "
                    f"{tally.seconds:.1f} s"
                )
                for where, what in tally.faults[:3]:
                    say(f"  {where}: {what}")
            if tally.faults and not all_phases:
                break
    finally:
        disk.close()
        (scratch / "disk").unlink()
    return Outcome(tallies, examples, oracle.memory.asked)


def _count(tally: Tally, verdict: Verdict, cut: Cut) -> None:
    if verdict.kind is not None:
        tally.kinds[verdict.kind] += 1
    if verdict.problem:
        tally.unbootable += 1
    if verdict.ambiguous:
        tally.ambiguous += 1
    problem = verdict.problem or verdict.ambiguous
    if problem and len(tally.faults) < MAX_FAULTS:
        tally.faults.append((str(cut), problem))


def memory() -> str | None:
    """Where files lie in memory, if there is such: thousands are made to be checked."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def judge_recording(
    recording: Recording, tools: HostTools, scratch: Path, *, bound: int
) -> Outcome:
    """Flush by flush up to the first with a fault, without a word."""
    layout = layout_of(recording)
    survey(recording, layout, scratch)
    with tempfile.TemporaryDirectory(prefix="crash-", dir=memory()) as copies:
        oracle = Oracle(
            layout, tools, recording.versions, recording.cores, recording.boot, Path(copies)
        )
        return judge(
            recording, layout, oracle, scratch, bound=bound, wanted=lambda name: True,
            say=lambda text: None, all_phases=False,
        )  # fmt: skip
