"""Chooses the accelerator by booting a micro-guest, and measures how slow this host is.

An accelerator that exists may still not work: /dev/kvm can open, create a machine, and yet never
bring a stock kernel through early boot, or do so more slowly than TCG. So the proof is a kernel
that runs until it finds no root file system; the accelerator that gets there first is taken, and
the time it took scales every deadline.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import math
import os
import platform
import re
import socket
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.console.pump import Pump
from harness.console.recorder import Recorder
from harness.deadline import Deadline
from harness.errors import HarnessError, LaunchError, WaitError
from harness.journal.journal import Event, Journal
from harness.journal.patterns import Pattern
from harness.qemu.arch import Arch
from harness.qemu.process import Process
from harness.qemu.tools import HostTools

MARKER = re.compile(r"VFS: Unable to mount root fs")

# Seconds until the marker under TCG on the machine that the deadlines were chosen on: 2 cores,
# otherwise idle.
REFERENCE = {Arch.X86_64: 3.6, Arch.AARCH64: 2.0}

# A KVM that has not reached the marker by then would be no gain.
_LIMITS = {"kvm": 10.0, "tcg": 120.0}
# Below this share of the reference KVM surely is the faster one.
_FAST = 0.5

# How often one is measured at most where it seems slower than the reference by that factor.
_TRIES, _SLOW = 3, 1.5


@dataclass(frozen=True, slots=True)
class Accelerator:
    """``name`` is "kvm" or "tcg"; ``seconds`` is what its micro-guest took to boot."""

    name: str
    seconds: float
    scale: float


def probe(tools: HostTools, kernel: Path, arch: Arch, cache: Path) -> Accelerator:
    """The accelerator for ``arch`` here; raises HarnessError where not even TCG boots ``kernel``.

    The answer is kept below ``cache`` for as long as this boot of the host, this QEMU and this
    kernel last.
    """
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / f"accelerator-{arch}-{_key(tools, kernel, arch)}.json"
    # One worker measures; the others wait, and do not disturb the measurement.
    with (cache / "accelerator.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = _load(path)
        if known is None:
            known = _measure(tools, kernel, arch, cache)
            partial = path.with_suffix(".part")
            partial.write_text(json.dumps(asdict(known)) + "\n")
            partial.replace(path)
        return known


def _load(path: Path) -> Accelerator | None:
    try:
        return Accelerator(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None  # Absent, or written by another version: measure again.


def _key(tools: HostTools, kernel: Path, arch: Arch) -> str:
    version = subprocess.run(
        tools.argv(arch.qemu, "--version"), capture_output=True, check=True
    ).stdout
    parts = [
        version.decode(),
        # Every image has a copy of its own.
        hashlib.sha256(kernel.read_bytes()).hexdigest(),
        platform.release(),
        Path("/proc/sys/kernel/random/boot_id").read_text(),
        "compared with KVM" if _kvm_opens() else "no KVM",
        arch.machine(),
        arch.cpu("tcg"),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _kvm_opens() -> bool:
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _measure(tools: HostTools, kernel: Path, arch: Arch, runs: Path) -> Accelerator:
    times: dict[str, float] = {}
    if arch.is_hosts and _kvm_opens():
        # One that opens and does not work leaves TCG.
        with contextlib.suppress(HarnessError):
            times["kvm"] = _fastest(tools, kernel, arch, "kvm", runs)
    if times.get("kvm", math.inf) > _FAST * REFERENCE[arch]:
        try:
            times["tcg"] = _fastest(tools, kernel, arch, "tcg", runs)
        except HarnessError as error:
            if not times and isinstance(error, WaitError):
                raise HarnessError(
                    f"no accelerator boots {kernel} on {arch}: {error.message}",
                    hint="is the kernel one for this architecture?",
                ) from error
            if not times:
                raise
    name = min(times, key=times.__getitem__)
    return Accelerator(name, times[name], max(1.0, times[name] / REFERENCE[arch]))


def _fastest(tools: HostTools, kernel: Path, arch: Arch, accelerator: str, runs: Path) -> float:
    """Seconds of the fastest boot. Raises HarnessError where the first one does not end.

    Beside a build or another machine one alone would say how busy this host is, not how slow: every
    deadline already allows for the work of a whole run.
    """
    times: list[float] = []
    while not times or (len(times) < _TRIES and min(times) > _SLOW * REFERENCE[arch]):
        try:
            deadline = Deadline.after(_LIMITS[accelerator])
            times.append(boot(tools, kernel, arch, accelerator, runs, deadline))
        except HarnessError:
            if not times:
                raise
            break  # It has booted before.
    return min(times)


def boot(
    tools: HostTools, kernel: Path, arch: Arch, accelerator: str, runs: Path, deadline: Deadline
) -> float:
    """Seconds from QEMU's start until ``kernel`` finds no root. Raises HarnessError."""
    journal = Journal("probe", arch.value)
    ours, theirs = socket.socketpair()
    pump = Pump("probe", journal)
    process = Process(runs, journal, lambda: None)
    recorder = Recorder(process.directory, journal)
    try:
        pump.add(ours, recorder.feed, recorder.flush)
        begun = time.monotonic()
        with theirs:
            command = _command(tools, kernel, arch, accelerator, theirs.fileno())
            process.start(command, [theirs.fileno()], deadline)
        with journal.tolerating(Pattern.PANIC):
            event = journal.wait(_is_marker, "the kernel's end", deadline, since=0)
        return event.time - begun
    except WaitError as error:
        if words := process.last_words():
            raise LaunchError(f"QEMU with {accelerator} ended: {words}") from error
        raise
    finally:
        process.close()
        pump.close()
        recorder.close()
        ours.close()


def _is_marker(event: Event) -> bool:
    return event.kind == "line" and MARKER.search(event.text) is not None


def _command(
    tools: HostTools, kernel: Path, arch: Arch, accelerator: str, console: int
) -> list[str]:
    return tools.argv(
        arch.qemu,
        *("-no-user-config", "-nodefaults", "-display", "none", "-no-reboot"),
        *("-machine", f"{arch.machine()},accel={accelerator}", "-cpu", arch.cpu(accelerator)),
        *("-m", "256", "-kernel", str(kernel)),
        *("-append", f"console={arch.serial} panic=-1"),
        *("-chardev", f"socket,id=console,fd={console}", "-serial", "chardev:console"),
    )
