"""Figures of a node with Kubernetes: a part of ``./noxw -s bench``."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from harness.qemu.process import cpu_seconds
from harness.target.node import Node
from product.errors import KubesoloError
from scenarios.kubernetes import MACHINE, ROLLOUT, Cluster, begin
from scenarios.local import Bench
from scenarios.measure import BOOT_PHASES, Figures, moment

RUNS = 3
# Seconds from power on, through firmware and GRUB; bytes; for 2 cores under TCG.
READY_SECONDS = {"x86_64": 40.0, "aarch64": 45.0}
FORK_SECONDS = 3.0
REST_SECONDS = 30.0
SLOT_BYTES = 220e6
MEMORY_BYTES = 800e6
REST_PERCENT = 35.0

PHASES = (
    *BOOT_PHASES,
    ("services to node Ready", r"kubesolo: kubernetes ready"),
)


def measure(bench: Bench, folder: Path, figures: Figures) -> None:
    """All of them."""
    sizes(bench, figures)
    boots(bench, folder, figures)
    forks(bench, folder, figures)
    rest(bench, folder, figures)


def sizes(bench: Bench, figures: Figures) -> None:
    """What a slot with Kubernetes weighs."""
    for artifact in bench.image.slot.manifest.artifacts:
        figures.add(f"Kubernetes: size of {artifact.name}", artifact.size / 1e6, "MB")
    total = bench.image.slot.manifest.total_size
    figures.add("Kubernetes: size of the slot", total / 1e6, "MB", SLOT_BYTES / 1e6)


def boots(bench: Bench, folder: Path, figures: Figures) -> None:
    """Boots of a confirmed slot, the first one and later ones, to node Ready and beyond it."""
    runs: list[dict[str, float]] = []
    memory: list[float] = []
    faults: list[float] = []
    served: list[float] = []
    with bench.session("bench kubernetes", folder / "kubernetes", "./noxw -s bench") as session:
        node = session.node(**MACHINE)
        since, begun = _booted(node)
        first = _phases(node, since, begun)
        # The first of all pods: made when the node is Ready, its images perhaps not yet imported.
        cluster = Cluster(node)
        cluster.create("nginx")
        cluster.rolled_out("web")
        running = time.monotonic() - begun
        node.succeed(_ask(cluster), seconds=ROLLOUT)
        first_answer = time.monotonic() - begun
        cluster.delete("nginx")
        for _ in range(RUNS):
            runs.append(_phases(node, *_power_on_anew(node)))
            used = "awk '/^MemTotal/ { t = $2 } /^MemAvailable/ { print t - $2 }' /proc/meminfo"
            memory.append(float(node.succeed(used).text) * 1024)
            faults.append(float(node.succeed("awk '/^pgfault / { print $2 }' /proc/vmstat").text))
        cluster.create("nginx")
        cluster.rolled_out("web")
        # The Deployment itself is still called available, as it was before the power went.
        ask = _ask(cluster)
        for _ in range(RUNS):
            since, begun = _power_on_anew(node)
            node.succeed(ask, seconds=ROLLOUT)
            answered = time.monotonic() - begun
            served.append(answered - _phases(node, since, begun)["ready"])
    for name, _ in PHASES:
        figures.add(f"Kubernetes: {name}", statistics.median(run[name] for run in runs), "s")
    ready = statistics.median(run["ready"] for run in runs)
    budget = READY_SECONDS[bench.builder.arch.value]
    figures.add("Kubernetes: boot to node Ready", ready, "s", budget)
    figures.add("Kubernetes: first boot of a fresh disk to node Ready", first["ready"], "s")
    figures.add("Kubernetes: first boot to the first workload Running", running, "s")
    figures.add("Kubernetes: first boot to the first workload's answer", first_answer, "s")
    figures.add("Kubernetes: node Ready to a workload's answer", statistics.median(served), "s")
    figures.add(
        "Kubernetes: memory in use at Ready", statistics.median(memory) / 1e6, "MB",
        MEMORY_BYTES / 1e6,
    )  # fmt: skip
    thousands = statistics.median(faults) / 1e3
    figures.add("Kubernetes: page faults to node Ready", thousands, "thousand")


def _ask(cluster: Cluster) -> str:
    """Ends when the manifest ``nginx`` is served."""
    return f"until wget -q -T 1 -O /dev/null http://{cluster.web}/; do sleep 0.2; done"


def _power_on_anew(node: Node) -> tuple[int, float]:
    """Cut the power of a node at rest and boot it: where its events begin, and when it began."""
    node.succeed("sync")
    node.power_cut()
    return _booted(node)


def _booted(node: Node) -> tuple[int, float]:
    """Boot a node that is off: where its events begin, and when it began."""
    since = node.journal.cursor if node.started else 0
    begun = time.monotonic()
    node.boot()
    return since, begun


def _phases(node: Node, since: int, begun: float) -> dict[str, float]:
    # The agent may see that the node is Ready before it is announced.
    node.wait_console(PHASES[-1][1], since=since)
    events = node.journal.events(since)
    phases: dict[str, float] = {}
    last = begun
    for name, expression in PHASES:
        now = moment(events, expression)
        phases[name] = now - last
        last = now
    phases["ready"] = last - begun
    return phases


def forks(bench: Bench, folder: Path, figures: Figures) -> None:
    """From the wish for a Ready node to an answered request, forked from a snapshot."""
    seconds = []
    for number in range(RUNS + 1):
        name = folder / f"kubernetes-fork-{number}"
        with bench.session("bench kubernetes fork", name, "./noxw -s bench") as session:
            node = session.node(**MACHINE)
            begun = time.monotonic()
            done = begin(node).kubectl("get", "--raw", "/readyz")
            seconds.append(time.monotonic() - begun)
            if done.text != "ok":
                raise KubesoloError(f"the API server said {done.text!r}")
    # The first one may have made the snapshot.
    median = statistics.median(seconds[1:])
    figures.add("Kubernetes: fork to an answered request", median, "s", FORK_SECONDS)


def rest(bench: Bench, folder: Path, figures: Figures) -> None:
    """What a node at rest takes of this host's processors, in percent of one."""
    name = folder / "kubernetes-rest"
    with bench.session("bench kubernetes rest", name, "./noxw -s bench") as session:
        node = session.node(**MACHINE)
        begin(node)
        qemu = node.machine.process.pid
        if qemu is None:
            raise KubesoloError("QEMU has ended before a node at rest was measured")
        # A fork translates its code anew, and kubelet and controllers catch up on their rounds.
        time.sleep(REST_SECONDS)
        before = cpu_seconds(qemu)
        time.sleep(REST_SECONDS)
        used = cpu_seconds(qemu) - before
    figures.add(
        "Kubernetes: processors of a node at rest", used / REST_SECONDS * 100, "%", REST_PERCENT
    )
