"""The other judge: a machine starts from a state, and comes up as the oracle foretold, or not."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from harness.crash.disk import Disk
from harness.crash.epochs import Cut, Epoch
from harness.crash.log import Write
from harness.errors import HarnessError
from harness.journal.patterns import Pattern
from harness.target.node import Node
from scenarios.crash.judge import Example, recorded_epochs
from scenarios.crash.layout import Layout, Part
from scenarios.crash.record import Phase, Recording
from scenarios.local import Bench

MIB = 1 << 20
# The release of a recording whose init panics.
PANICS = "0.2.1"


@dataclass(frozen=True, slots=True)
class Booted:
    """What became of one state; ``problem`` is how it differs from what was foretold."""

    example: Example
    slots: tuple[str, ...]
    found: str
    problem: str = ""


@dataclass(frozen=True, slots=True)
class StateImage:
    """An example's disk, as a raw image of so many MiB."""

    example: Example
    image: Path
    mib: int


def boot_all(
    bench: Bench,
    recording: Recording,
    layout: Layout,
    examples: Sequence[Example],
    scratch: Path,
    out: Path,
    say: Callable[[str], None],
    *,
    at_once: int,
) -> list[Booted]:
    """Boot every example, ``at_once`` machines beside each other, in the order of the recording."""
    # A state takes room: none is written out before a machine is free for it.
    free = threading.Semaphore(at_once)
    ended = itertools.count(1)

    def boot(state: StateImage, number: int) -> Booted:
        example = state.example
        try:
            result = _boot(bench, state, out / f"boot-{number}")
        finally:
            state.image.unlink()
            free.release()
        verdict = result.problem or "as foretold"
        say(f"{next(ended)} of {len(examples)}: {example.kind}: {verdict}")
        return result

    made = states(recording, layout, examples, scratch)
    with contextlib.closing(made), ThreadPoolExecutor(at_once) as pool:
        begun = []
        for number in range(1, len(examples) + 1):
            free.acquire()
            begun.append(pool.submit(boot, next(made), number))
        return [future.result() for future in begun]


def states(
    recording: Recording, layout: Layout, examples: Sequence[Example], scratch: Path
) -> Generator[StateImage, None, None]:
    """Write out the disk of each example, in the order of the recording.

    The images are the caller's to delete.
    """
    waiting = sorted(examples, key=lambda example: example.cut.epoch)
    numbers = itertools.count(1)
    disk = Disk(recording.disk, recording.disk_bytes, scratch / "carried")
    try:
        for epoch, (phase, writes) in enumerate(_all_epochs(recording), 1):
            while waiting and waiting[0].cut.epoch == epoch:
                example = waiting.pop(0)
                image = scratch / f"state-{next(numbers)}"
                materialise(disk, writes, layout, example.cut, image)
                size = recording.sizes[phase.log]
                with image.open("r+b") as stream:
                    stream.truncate(size)
                yield StateImage(example, image, size // MIB)
            for write in writes:
                disk.write(write)
    finally:
        disk.close()
        (scratch / "carried").unlink()


def _all_epochs(recording: Recording) -> Iterator[tuple[Phase, list[Write]]]:
    for phase in recording.phases:
        for writes in recorded_epochs(recording, phase):
            yield phase, writes


def materialise(disk: Disk, writes: Sequence[Write], layout: Layout, cut: Cut, into: Path) -> None:
    """Write the state as a raw image; ``disk`` is what was before its epoch."""
    epoch = Epoch(cut.epoch, writes, disk, layout.part, len(Part))
    overlay = epoch.overlay(cut, lambda _: True)
    state = Disk(disk.path, disk.size, into)
    try:
        for sector, data in sorted(overlay.items()):
            state.write(Write(sector * 512, data, False))
    finally:
        state.close()


def _boot(bench: Bench, state: StateImage, artefacts: Path) -> Booted:
    try:
        with bench.session(f"crash {state.example.kind}", artefacts, "./noxw -s crash") as session:
            node = session.node(image=state.image, disk_size_mib=state.mib)
            return watch(node, state.example)
    except HarnessError as error:
        return Booted(state.example, (), "", f"it did not come up: {error.message}")


def _tries(example: Example) -> int:
    """How many boots the slot gets that GRUB chooses first."""
    if example.kind.version != PANICS:
        return 1
    counter = int(example.kind.env[1])
    return max(counter, 1)


def watch(node: Node, example: Example) -> Booted:
    """Boot the node that has the example's disk, and compare with what was foretold."""
    kind = example.kind
    expected = [kind.slot] * _tries(example)
    if kind.version == PANICS:
        expected.append("B" if kind.slot == "A" else "A")
    with node.expect_boots(len(expected)) as boots:
        node.power_on()
        # Only a machine that was started can be told what is no failure of it.
        with node.tolerating(Pattern.INIT_EXITED):
            ready = node.wait_ready()
    status = node.status()
    slots = tuple(boots.slots)
    found = f"{ready}; update {status.update.phase}, data {status.boot.data}"
    problems = []
    if list(slots) != expected:
        problems.append(f"slots {' '.join(slots)} instead of {' '.join(expected)}")
    if not ready.confirmed:
        problems.append("the slot is not confirmed")
    if kind.version != PANICS and ready.version != kind.version:
        problems.append(f"{ready.version} instead of {kind.version}")
    if status.boot.data != "persistent":
        problems.append(f"the data partition is {status.boot.data}")
    return Booted(example, slots, found, "; ".join(problems))
