"""What the hardening of a running node costs: ``./noxw -s bench -- --part hardening``.

The same image boots as it comes, and with all that security.conf can switch off. What belongs to
the image, as its verified root, is in both.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.qemu.process import cpu_seconds
from harness.target.node import Node
from product.errors import KubesoloError
from scenarios.kubernetes import MACHINE
from scenarios.local import Bench
from scenarios.measure import Figures

RUNS = 3
SOFT = "apparmor=off\naudit=off\nlockdown=none\nmodules=open\n"
_USED = "awk '/^MemTotal/ { t = $2 } /^MemAvailable/ { print t - $2 }' /proc/meminfo"


def measure(
    appliance: Callable[[], Bench], kubernetes: Callable[[], Bench], folder: Path, figures: Figures
) -> None:
    """Boots of both recipes, hardened and not: seconds, CPU-seconds of QEMU, memory in use."""
    _compare("appliance", appliance(), "kubesolo-update: ready", {}, folder, figures)
    _compare("Kubernetes", kubernetes(), "kubesolo: kubernetes ready", MACHINE, folder, figures)


def _compare(
    name: str, bench: Bench, line: str, machine: dict[str, Any], folder: Path, figures: Figures
) -> None:
    place = folder / f"hardening-{name.lower()}"
    with bench.session(f"bench hardening {name}", place, "./noxw -s bench") as session:
        node = session.node(**machine)
        # The first boot makes what the others find, whatever the settings.
        node.boot()
        node.wait_console(line, since=0)
        for how, settings in (("hardened", ""), ("not hardened", SOFT)):
            node.put(settings, "/etc/kubesolo/security.conf", mode=0o600)
            runs = [_boot(node, line) for _ in range(RUNS)]
            for what, unit, values in zip(
                ("boot", "CPU of the boot", "memory in use"),
                ("s", "s", "MB"),
                zip(*runs, strict=True),
                strict=True,
            ):
                figures.add(f"{name}, {how}: {what}", statistics.median(values), unit)


def _boot(node: Node, line: str) -> tuple[float, float, float]:
    """Seconds from power on to ``line``, CPU-seconds of QEMU until then, MB in use."""
    node.succeed("sync")
    node.power_cut()
    since = node.journal.cursor
    begun = time.monotonic()
    node.boot()
    node.wait_console(line, since=since)
    seconds = time.monotonic() - begun
    qemu = node.machine.process.pid
    if qemu is None:
        raise KubesoloError("QEMU has ended before its boot was measured")
    used = cpu_seconds(qemu)
    return seconds, used, float(node.succeed(_USED).text) * 1024 / 1e6
