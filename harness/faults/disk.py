"""A disk that does not answer, or is slow."""

from __future__ import annotations

from harness.errors import HarnessError
from harness.journal.journal import Source
from harness.qemu.machine import Machine

# The half of the boot disk's virtio device that has its contents.
_DISK = "/machine/peripheral/disk0/virtio-backend"


def set_disk(machine: Machine, *, answers: bool) -> None:
    """Hold the disk's requests, as a dying disk does, or let go of them.

    One may pass; those after it wait for as many seconds as it has bytes. Raises HarnessError where
    QEMU does not say that it does so.
    """
    _throttle(machine, 0 if answers else 1)
    text = "the disk answers again" if answers else "the disk does not answer"
    machine.journal.append(Source.FAULT, "fired", text)


def set_disk_rate(machine: Machine, bytes_per_second: int) -> None:
    """Slow the disk down, as old cards and sticks are; 0 is its own speed.

    Raises HarnessError where QEMU does not say that it does so.
    """
    _throttle(machine, bytes_per_second)
    rate = f"{bytes_per_second} B/s" if bytes_per_second else "its own speed"
    machine.journal.append(Source.FAULT, "fired", f"the disk has {rate}")


def _throttle(machine: Machine, rate: int) -> None:
    said = machine.monitor(f"block_set_io_throttle {_DISK} {rate} 0 0 0 0 0")
    blocks = machine.monitor("info block")
    if said or ("I/O throttling" in blocks) != bool(rate):
        raise HarnessError(f"QEMU does not hold the disk's requests as asked: {said or blocks}")
