"""Measured figures with their conditions and budgets: ``./noxw -s bench [-- --arch aarch64]``.

Nothing here asserts a time: a budget that is missed is printed as missed. Figures are medians of a
few runs on whatever machine this is; the budgets are for 2 cores under TCG.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from harness.deadline import Deadline
from harness.faults.http import WebServer
from harness.qemu import accel
from harness.qemu.arch import Arch as GuestArch
from harness.target.node import Node, State
from product.errors import KubesoloError
from product.image import progress
from product.image.build import DEFAULT_RECIPE, Builder
from product.image.cache import Cache
from product.image.recipe import Arch
from product.image.tools import HostTools
from scenarios import (
    bench_deltas,
    bench_hardening,
    bench_harness,
    bench_kubernetes,
    bench_media,
    bench_registry,
)
from scenarios.command_line import guarded
from scenarios.fleet.simulation import Step, simulate
from scenarios.kubectl import RECIPE
from scenarios.kubernetes import MACHINE
from scenarios.local import Bench
from scenarios.measure import BOOT_PHASES, Figures, moment
from scenarios.releases import Releases
from scenarios.steps import offer

# Console lines that end the phases of a boot.
PHASES = (*BOOT_PHASES, ("agent", r"kubesolo-update: ready"))

OUTPUT = Path("out/bench")
RUNS = 3
FIRST_BOOT_GB = (8, 64, 2000)
# Wall seconds, bytes or ratios; for 2 cores under TCG.
ROOT_BYTES = 30e6
BOOT_SECONDS = {"x86_64": 12.0, "aarch64": 7.0}
FORK_SECONDS = 1.5
OVERHEAD_SECONDS = 0.150
APPLY_RATIO = 1.1
WARM_BUILD_SECONDS = 30.0
UNCHANGED_SECONDS = 2.0
# A node of this memory keeps the agent's imports in a resident process.
RESIDENT_MIB = 1024
AGENT_SERVES = "until [ -S /run/kubesolo/agent.sock ]; do sleep 1; done"
REHEARSE = "kubesolo-update apply --dry-run > /dev/null 2>&1; [ $? = 10 ]"
APPLY = "kubesolo-update apply > /dev/null 2>&1"
LIMIT = (
    "mkdir -p /run/look && mount /dev/vda3 /run/look && cd /run/look && rm -rf ./* && "
    "for digest in {digests}; do wget -q -O $digest {url}/artifacts/$digest || exit; done && "
    "sync && echo 3 > /proc/sys/vm/drop_caches && sha256sum [0-9a-f]* && "
    "rm -f ./[0-9a-f]* && cd / && umount /run/look"
)
# The agent's commands, in an order in which each finds something to do.
COMMANDS = (
    "status --json", "history --json", "metrics", "check", "apply --dry-run", "apply", "activate",
    "rollback", "quarantine list", "healthcheck", "logs", "support --output /tmp/support",
)  # fmt: skip
# Prints seconds, and the KiB of the largest process; what the command says of itself is not judged.
WEIGH = """import resource, subprocess, sys, time
begun = time.monotonic()
done = subprocess.run(sys.argv[1:], stdin=-3, stdout=-3, stderr=subprocess.PIPE, text=True)
if done.returncode not in (0, 10, 11):
    sys.exit(f"{done.returncode}: {done.stderr}")
print(time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
FLEET_NODES = 100
FLEETS = (
    ("a look each six hours", "check_interval=360\n", (Step(0, 100),)),
    ("the same with a window from 2 to 4",
     "check_interval=360\nmaintenance_window=02:00-04:00\n", (Step(0, 100),)),
    ("5 %, after a day 25 %, after two 100 %", "check_interval=360\n",
     (Step(0, 5), Step(24, 25), Step(48, 100))),
)  # fmt: skip
HOST_LIMIT = 120.0


class Part(StrEnum):
    """What can be measured by itself."""

    BUILD = "build"
    SIZE = "size"
    BOOT = "boot"
    FORK = "fork"
    APPLY = "apply"
    COMMANDS = "commands"
    FLEET = "fleet"
    SUITE = "suite"
    KUBERNETES = "kubernetes"
    DELTAS = "deltas"
    REGISTRY = "registry"
    MEDIA = "media"
    MEDIA_BOOT = "media-boot"
    HARDENING = "hardening"
    HARNESS = "harness"


# The parts for which no machine starts.
_WITHOUT_MACHINE = {Part.BUILD, Part.SIZE, Part.FLEET, Part.DELTAS, Part.REGISTRY, Part.MEDIA}


def _timed(action: Callable[[], object]) -> float:
    begun = time.monotonic()
    action()
    return time.monotonic() - begun


def builds(arch: Arch, cache: Cache, tools: HostTools, figures: Figures) -> None:
    """Builds into an empty cache that has the downloads, after a change, and unchanged."""
    with tempfile.TemporaryDirectory(prefix="kubesolo-bench-", dir=cache.root) as folder:
        own = Cache(Path(folder))
        own.blobs.rmdir()
        own.blobs.symlink_to(cache.blobs)
        images = Path(folder) / "images"
        shutil.copytree(DEFAULT_RECIPE.parent, images, symlinks=True)
        recipe = images / DEFAULT_RECIPE.name

        def build() -> None:
            Builder(arch, cache=own, tools=tools, recipe=recipe).image("0.1.0")

        figures.add("image build, packages downloaded", _timed(build), "s")
        (images / "overlay/etc/motd").write_text("changed\n")
        seconds = _timed(build)
        figures.add("image build after a change", seconds, "s", WARM_BUILD_SECONDS)
        figures.add("image build, nothing changed", _timed(build), "s", UNCHANGED_SECONDS)


def sizes(bench: Bench, figures: Figures) -> None:
    """What a slot and a download weigh."""
    for artifact in bench.image.slot.manifest.artifacts:
        budget = ROOT_BYTES / 1e6 if artifact.name == "root.squashfs" else None
        figures.add(f"size of {artifact.name}", artifact.size / 1e6, "MB", budget)
    used = bench.image.disk.stat().st_blocks * 512
    figures.add("disk image, without its holes", used / 1e6, "MB")


def boots(bench: Bench, folder: Path, figures: Figures) -> None:
    """Boots of a confirmed slot from power on, through firmware and GRUB, by phase."""
    runs: list[dict[str, float]] = []
    with bench.session("bench boot", folder / "boot", "./noxw -s bench") as session:
        node = session.node()
        node.boot()  # The first boot makes the data file system; it is not the one to judge.
        for _ in range(RUNS):
            node.succeed("sync")
            node.power_cut()
            since = node.journal.cursor
            begun = time.monotonic()
            node.boot()
            events = node.journal.events(since)
            phases: dict[str, float] = {}
            last = begun
            for name, expression in PHASES:
                now = moment(events, expression)
                phases[name] = now - last
                last = now
            phases["total"] = last - begun
            runs.append(phases)
    for name, _ in PHASES:
        figures.add(f"boot: {name}", statistics.median(run[name] for run in runs), "s")
    total = statistics.median(run["total"] for run in runs)
    figures.add("boot to agent ready", total, "s", BOOT_SECONDS[bench.builder.arch.value])
    for gigabytes in FIRST_BOOT_GB:
        name = f"first boot of a disk of {gigabytes} GB to agent ready"
        with bench.session(name, folder / f"first-{gigabytes}", "./noxw -s bench") as session:
            # 1000 MiB a gigabyte is near enough, and a round number of sectors.
            node = session.node(disk_size_mib=gigabytes * 1000)
            figures.add(name, _timed(node.boot), "s")


def forks(bench: Bench, folder: Path, figures: Figures) -> None:
    """From the wish for a ready node to its first reply, forked from a snapshot."""
    seconds = []
    for number in range(RUNS + 1):
        with bench.session("bench fork", folder / f"fork-{number}", "./noxw -s bench") as session:
            node = session.node()
            seconds.append(_timed(lambda node=node: node.at(State.READY)))  # type: ignore[misc]
    # The first one may have made the snapshot.
    figures.add("fork to first reply", statistics.median(seconds[1:]), "s", FORK_SECONDS)


def applies(bench: Bench, folder: Path, figures: Figures) -> None:
    """An update against its limit: the same bytes by wget onto the same partition, and read back.

    By the resident process and without it, on a node that has the memory for it. What apply costs
    before its first write, whatever the release's size, is also shown by itself.
    """
    with tempfile.TemporaryDirectory(prefix="kubesolo-bench-") as scratch:
        releases = Releases(bench.builder, Path(scratch))
        release = releases.good
        digests = " ".join(artifact.sha256 for artifact in release.slot.manifest.artifacts)
        runs: list[dict[str, float]] = []
        with WebServer(release.repository) as server:
            for number in range(RUNS):
                name = folder / f"apply-{number}"
                with bench.session("bench apply", name, "./noxw -s bench") as session:
                    node = session.node(memory_mib=RESIDENT_MIB)
                    node.at(State.READY)
                    offer(node, release, server)
                    node.succeed(AGENT_SERVES, seconds=120)
                    # Read once, so that no side pays for a cold Python or a cold cache.
                    _inside(node, REHEARSE)
                    run = {"start": _inside(node, REHEARSE)}
                    run["apply"] = _inside(node, APPLY)
                    run["limit"] = _inside(node, LIMIT.format(url=server.url, digests=digests))
                    node.succeed("sv down /run/service/agent; rm /run/kubesolo/agent.sock")
                    _inside(node, REHEARSE)
                    run["start alone"] = _inside(node, REHEARSE)
                    run["apply alone"] = _inside(node, APPLY)
                    runs.append(run)
    megabytes = release.slot.manifest.total_size / 1e6
    middle = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    figures.add("apply: before the first write", middle["start"], "s")
    figures.add("apply: before the first write, without a resident process",
                middle["start alone"], "s")  # fmt: skip
    figures.add("apply", megabytes / middle["apply"], "MB/s")
    figures.add("apply without a resident process", megabytes / middle["apply alone"], "MB/s")
    figures.add("wget into the slot, read back", megabytes / middle["limit"], "MB/s")
    ratio = statistics.median(run["apply"] / run["limit"] for run in runs)
    figures.add("apply against wget into the slot", ratio, "x", APPLY_RATIO)
    ratio = statistics.median(run["apply alone"] / run["limit"] for run in runs)
    figures.add("the same without a resident process", ratio, "x")


def commands(bench: Bench, folder: Path, figures: Figures) -> None:
    """What each command of the agent takes on a node: memory at its peak, and seconds."""
    with tempfile.TemporaryDirectory(prefix="kubesolo-bench-") as scratch:
        release = Releases(bench.builder, Path(scratch)).good
        with (
            WebServer(release.repository) as server,
            bench.session("bench commands", folder / "commands", "./noxw -s bench") as session,
        ):
            node = session.node()
            node.at(State.READY)
            offer(node, release, server)
            for command in COMMANDS:
                seconds, megabytes = _weighed(node, command)
                figures.add(f"{command}: memory at its peak", megabytes, "MB")
                figures.add(f"{command}: from start to end", seconds, "s")


def _weighed(node: Node, command: str) -> tuple[float, float]:
    """Seconds and MB of ``kubesolo-update`` with the arguments ``command``."""
    words = ["kubesolo-update", *command.split()]
    seconds, kibibytes = node.succeed(["python3", "-c", WEIGH, *words], seconds=300).text.split()
    return float(seconds), float(kibibytes) * 1024 / 1e6


def fleets(figures: Figures) -> None:
    """How long a release takes to a hundred nodes, by the agent's schedule and gates."""
    for name, settings, steps in FLEETS:
        found = simulate(FLEET_NODES, f"server=http://updates.example/\n{settings}", steps)
        hours = found.seconds[len(found.seconds) // 2] / 3600, found.last / 3600
        figures.add(f"{FLEET_NODES} nodes, {name}: half of them begin within", hours[0], "h")
        figures.add(f"{FLEET_NODES} nodes, {name}: the last begins within", hours[1], "h")
        figures.add(
            f"{FLEET_NODES} nodes, {name}: most in one minute", found.busiest_minute, "nodes"
        )


def _inside(node: Node, command: str) -> float:
    """Seconds by the guest's own clock, without the channel."""
    script = (
        f"read before rest < /proc/uptime; ({command}) || exit; read after rest < /proc/uptime; "
        'echo "$before $after"'
    )
    done = node.succeed(script, seconds=300)
    before, after = done.text.splitlines()[-1].split()
    return float(after) - float(before)


def suites(arch: Arch, folder: Path, selection: str, figures: Figures) -> None:
    """The same scenarios with one worker and with two, and the harness's own time in each."""
    overheads: list[float] = []
    for workers in (1, 2):
        evidence = (folder / f"suite-{workers}").absolute()
        command = [
            sys.executable, "-m", "pytest", "-q", "-n", str(workers), "--arch", arch.value,
            "--artefacts", str(evidence), "-p", "no:cacheprovider", *selection.split(),
        ]  # fmt: skip
        begun = time.monotonic()
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds = time.monotonic() - begun
        if ended.returncode:
            raise KubesoloError(f"the suite failed: {ended.stdout[-2000:]}")
        results = [json.loads(path.read_text()) for path in evidence.glob("*/result.json")]
        overheads += [float(result["overhead_seconds"]) for result in results]
        many = f"{len(results)} scenarios"
        figures.add(f"{many}, {workers} workers", seconds, "s")
        figures.add(f"scenarios a minute, {workers} workers", len(results) * 60 / seconds, "/min")
    overhead = statistics.median(overheads)
    figures.add("harness overhead of a scenario", overhead, "s", OVERHEAD_SECONDS)


def host_speed(bench: Bench, figures: Figures, when: str) -> None:
    """What the micro-guest takes under TCG: a host that is slow for an hour shows it here."""
    arch, host = GuestArch(bench.builder.arch.value), bench.host
    if host.accelerator != "tcg":
        return

    def once() -> float:
        limit = Deadline.after(HOST_LIMIT)
        return accel.boot(host.tools, bench.image.kernel, arch, host.accelerator, host.runs, limit)

    seconds = statistics.median(once() for _ in range(RUNS))
    figures.add(f"host: a kernel alone, {when}", seconds, "s")


def run(arch: Arch, parts: list[Part], selection: str) -> None:
    """Measure and print."""
    cache = Cache()
    tools = HostTools.prepare(cache)
    figures = Figures()
    folder = OUTPUT / arch.value
    bench = Bench.prepare(Builder(arch, cache=cache, tools=tools))
    actions: dict[Part, Callable[[], None]] = {
        Part.BUILD: lambda: builds(arch, cache, tools, figures),
        Part.SIZE: lambda: sizes(bench, figures),
        Part.BOOT: lambda: boots(bench, folder, figures),
        Part.FORK: lambda: forks(bench, folder, figures),
        Part.APPLY: lambda: applies(bench, folder, figures),
        Part.COMMANDS: lambda: commands(bench, folder, figures),
        Part.FLEET: lambda: fleets(figures),
        Part.SUITE: lambda: suites(arch, folder, selection, figures),
        Part.KUBERNETES: lambda: bench_kubernetes.measure(
            Bench.prepare(Builder(arch, cache=cache, tools=tools, recipe=RECIPE)), folder, figures
        ),
        # The pairs are of x86_64, whatever the node.
        Part.DELTAS: lambda: bench_deltas.measure(cache, tools, figures),
        Part.REGISTRY: lambda: bench_registry.measure(bench.builder, cache, figures),
        Part.MEDIA: lambda: bench_media.measure(bench.builder, cache, figures),
        Part.MEDIA_BOOT: lambda: bench_media.boots(bench, folder, figures),
        Part.HARDENING: lambda: bench_hardening.measure(
            lambda: bench,
            lambda: Bench.prepare(Builder(arch, cache=cache, tools=tools, recipe=RECIPE)),
            folder,
            figures,
        ),
        Part.HARNESS: lambda: bench_harness.measure(bench, folder, figures),
    }

    machines = not parts or bool({*parts} - _WITHOUT_MACHINE)
    if machines:
        host_speed(bench, figures, "before")
    for name, action in actions.items():
        if not parts or name in parts:
            with progress.step(f"{arch}: {name}"):
                action()
    if machines:
        host_speed(bench, figures, "after")
    load = os.getloadavg()[0]
    conditions = (
        f"{arch} guest, 512 MiB, 1 vCPU (Kubernetes: {MACHINE['memory_mib']} MiB, "
        f"{MACHINE['cpus']} vCPU), {bench.host.accelerator}, UEFI; host with "
        f"{os.cpu_count()} processors, load {load:.1f} at the end; median of {RUNS}; budgets are "
        f"for one that runs a kernel alone in {accel.REFERENCE[GuestArch(arch.value)]} s under TCG"
    )
    Console(highlight=False).print(figures.table(conditions))


def main(
    arch: Annotated[Arch | None, typer.Option(help="Both if absent.")] = None,
    part: Annotated[
        list[Part] | None, typer.Option(help="May be repeated; everything if absent.")
    ] = None,
    selection: Annotated[
        str, typer.Option(help="pytest arguments of the suite that is timed.")
    ] = "scenarios/security",
) -> None:
    """Print every measured figure with its conditions and its budget."""
    for name in [arch] if arch else list(Arch):
        run(name, part or [], selection)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    sys.exit(guarded(app))
