"""The other judge: a machine starts from a state, and comes up as the oracle foretold, or not."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
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
    waiting = sorted(examples, key=lambda example: example.cut.epoch)
    disk = Disk(recording.disk, recording.disk_bytes, scratch / "carried")
    # A state takes room: none is written out before a machine is free for it.
    free = threading.Semaphore(at_once)
    numbers = itertools.count(1)
    ended = itertools.count(1)

    def boot(example: Example, image: Path, size: int, number: int) -> Booted:
        try:
            result = _boot(bench, example, image, size, out / f"boot-{number}")
        finally:
            image.unlink()
            free.release()
        verdict = result.problem or "as foretold"
        say(f"{next(ended)} of {len(examples)}: {example.kind}: {verdict}")
        return result

    try:
        with ThreadPoolExecutor(at_once) as pool:
            begun = []
            for epoch, (phase, writes) in enumerate(_all_epochs(recording), 1):
                while waiting and waiting[0].cut.epoch == epoch:
                    free.acquire()
                    number = next(numbers)
                    image = scratch / f"state-{number}"
                    example = waiting.pop(0)
                    materialise(disk, writes, layout, example.cut, image)
                    size = recording.sizes[phase.log]
                    begun.append(pool.submit(boot, example, image, size, number))
                for write in writes:
                    disk.write(write)
            return [future.result() for future in begun]
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


def _boot(bench: Bench, example: Example, image: Path, size: int, artefacts: Path) -> Booted:
    with image.open("r+b") as stream:
        stream.truncate(size)
    kind = example.kind
    tries = _tries(example)
    expected = [kind.slot] * tries
    if kind.version == PANICS:
        expected.append("B" if kind.slot == "A" else "A")
    try:
        with bench.session(f"crash {kind}", artefacts, "./noxw -s crash") as session:
            node = session.node(image=image, disk_size_mib=size // MIB)
            return _watch(node, example, expected)
    except HarnessError as error:
        return Booted(example, (), "", f"it did not come up: {error.message}")


def _tries(example: Example) -> int:
    """How many boots the slot gets that GRUB chooses first."""
    if example.kind.version != PANICS:
        return 1
    counter = int(example.kind.env[1])
    return max(counter, 1)


def _watch(node: Node, example: Example, expected: list[str]) -> Booted:
    kind = example.kind
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
