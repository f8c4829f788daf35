"""The harness beside labgrid's QEMU driver: ``./noxw -s bench -- --part harness``.

Both boot the same kernel, initramfs and disk without firmware, and run the same commands: the
harness by its channel, labgrid by the shell that the boot entry for debugging gives on the serial
console. Only the harness forks from a snapshot. virtme-ng is measured where PATH has its
``virtme-run`` and ``virtiofsd``: it boots the same kernel on this host's own files, without the
slot's initramfs, disk and services.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from harness.qemu.arch import Arch as GuestArch
from harness.qemu.arch import Firmware
from harness.qemu.spec import MachineSpec
from harness.target.node import Node, State
from product.errors import KubesoloError
from product.image import progress
from scenarios.local import Bench
from scenarios.measure import Figures

RUNS = 5
COMMANDS = 10
# Set by the session `bench`: the interpreter of the environment with labgrid.
INTERPRETER = "KUBESOLO_LAB_PYTHON"
_ARCH = "x86_64"
_MEMORY_MIB = int(MachineSpec.model_fields["memory_mib"].default)


def measure(bench: Bench, folder: Path, figures: Figures) -> None:
    """Power on to the first reply, ten replies more, and a fork to its first reply; x86_64 only,
    whose machine boots a kernel without UEFI."""
    if bench.builder.arch.value != _ARCH:
        progress.note(f"only {_ARCH} machines boot a kernel without UEFI: not measured")
        return
    disk, append = _prepared(bench, folder)
    ours = [_own(bench, folder / f"harness-own-{n}", disk, append) for n in range(RUNS)]
    _add(figures, "harness", ours)
    forks = [_fork(bench, folder / f"harness-fork-{n}") for n in range(RUNS + 1)]
    # The first one may have made the snapshot.
    _add(figures, "harness, forked", forks[1:])
    with tempfile.TemporaryDirectory(prefix="kubesolo-bench-") as scratch:
        qemu = Path(scratch) / "qemu"
        command = shlex.join(bench.host.tools.argv(GuestArch(_ARCH).qemu))
        qemu.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        qemu.chmod(0o755)
        _add(figures, "labgrid", _labgrid(bench, qemu, disk, append))
        missing = [name for name in ("virtme-run", "virtiofsd") if shutil.which(name) is None]
        if missing:
            progress.note(f"virtme-ng is not measured: {' and '.join(missing)} not on PATH")
        else:
            runs = [_virtme(bench, qemu) for _ in range(RUNS)]
            figures.add("virtme-ng: start to the end of one command", statistics.median(runs), "s")


def _add(figures: Figures, who: str, runs: list[tuple[float, float]]) -> None:
    begun = "fork" if "forked" in who else "power on"
    figures.add(f"{who}: {begun} to first reply", statistics.median(run[0] for run in runs), "s")
    figures.add(f"{who}: {COMMANDS} commands", statistics.median(run[1] for run in runs), "s")


def _prepared(bench: Bench, folder: Path) -> tuple[Path, str]:
    """A disk whose first boot is over, and the kernel command line that GRUB gives it."""
    place = folder / "harness-disk"
    with bench.session("bench harness", place, "./noxw -s bench") as session:
        node = session.node()
        node.boot()
        # The first boot may give the disk identifiers of its own.
        node.reboot()
        node.wait_ready()
        append = node.succeed("cat /proc/cmdline").text.strip()
        node.succeed("sync")
        node.power_cut()
        disk = node.machine.keep_disk()
    if disk is None:
        raise KubesoloError("the disk of the first boot was not kept")
    words = [word for word in append.split() if not word.startswith("BOOT_IMAGE=")]
    return disk, " ".join([*words, "kubesolo.debug"])


def _own(bench: Bench, place: Path, disk: Path, append: str) -> tuple[float, float]:
    with bench.session("bench harness", place, "./noxw -s bench") as session:
        slot = bench.image.slot
        node = session.node(
            image=disk, kernel=slot.folder / "vmlinuz", initrd=slot.folder / "initramfs.img",
            append=append, firmware=Firmware.BIOS,
        )  # fmt: skip
        begun = time.monotonic()
        node.power_on()
        return _commands(node, begun)


def _fork(bench: Bench, place: Path) -> tuple[float, float]:
    with bench.session("bench harness", place, "./noxw -s bench") as session:
        node = session.node()
        begun = time.monotonic()
        node.at(State.READY)
        return _commands(node, begun)


def _commands(node: Node, begun: float) -> tuple[float, float]:
    node.target.channel.wait_up(node.deadline(120))
    node.succeed("true")
    first = time.monotonic()
    for _ in range(COMMANDS):
        node.succeed("true")
    return first - begun, time.monotonic() - first


def _labgrid(bench: Bench, qemu: Path, disk: Path, append: str) -> list[tuple[float, float]]:
    interpreter = os.environ.get(INTERPRETER)
    if not interpreter:
        raise KubesoloError(
            f"{INTERPRETER} names no interpreter that has labgrid",
            hint="run ./noxw -s bench -- --part harness, which makes one",
        )
    slot = bench.image.slot.folder
    settings = {
        "qemu": str(qemu),
        "machine": f"q35,accel={bench.host.accelerator}",
        "kernel": str(slot / "vmlinuz"),
        "initrd": str(slot / "initramfs.img"),
        "append": append,
        "disk": str(disk.absolute()),
        "memory": _MEMORY_MIB,
        "runs": RUNS,
        "commands": COMMANDS,
    }
    ended = subprocess.run(
        [interpreter, "-m", "scenarios.bench_labgrid", json.dumps(settings)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if ended.returncode:
        raise KubesoloError(f"labgrid could not be measured: {ended.stderr[-2000:]}")
    return [(run["first"], run["commands"]) for run in json.loads(ended.stdout.splitlines()[-1])]


def _virtme(bench: Bench, qemu: Path) -> float:
    """Seconds from virtme-ng's start to its end, for one command in between."""
    words = [
        "virtme-run", "--kimg", str(bench.image.slot.folder / "vmlinuz"), "--mods=none",
        "--disable-microvm", "--qemu-bin", str(qemu), "--memory", f"{_MEMORY_MIB}M",
        *(["--disable-kvm"] if bench.host.accelerator == "tcg" else []),
        "--script-sh", "echo begun",
    ]  # fmt: skip
    begun = time.monotonic()
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - begun
    if ended.returncode or "begun" not in ended.stdout:
        raise KubesoloError(
            f"virtme-ng could not be measured: {ended.stdout}{ended.stderr}"[-2000:]
        )
    return seconds
