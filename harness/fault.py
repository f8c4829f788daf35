"""Faults of a node's surroundings; each proves in the journal that it happened."""

from __future__ import annotations

from harness.errors import HarnessError
from harness.journal import Source
from harness.machine import Machine
from harness.target import Target

_COMMAND = 20.0
# The half of the boot disk's virtio device that has its contents.
_DISK = "/machine/peripheral/disk0/virtio-backend"
_INTERFACES = 'cd /sys/class/net && for i in *; do [ "$i" = lo ] || cat "$i/carrier"; done'


def power_cut(target: Target) -> None:
    """Pull the plug."""
    target.power_cut()
    if target.running:
        raise HarnessError("the node still has power after its power cut")
    target.journal.append(Source.FAULT, "fired", "power cut")


def set_link(machine: Machine, *, up: bool) -> None:
    """Plug the network cable in or out; the guest's own view of its carrier is the proof.

    Raises HarnessError where the guest sees no change.
    """
    machine.qmp("set_link", name="net0", up=up)
    deadline = machine.deadline(_COMMAND)
    wanted = "1" if up else "0"
    # The device's interrupt reaches the guest before its next command does, but its work queue may
    # come later: the guest itself waits for the change.
    script = f'until [ "$({_INTERFACES})" = {wanted} ]; do :; done'
    done = machine.channel.exec(["/bin/sh", "-c", script], deadline)
    if done.exit != 0:
        raise HarnessError(f"the guest's link did not go {'up' if up else 'down'}: {done}")
    machine.journal.append(Source.FAULT, "fired", f"network link {'up' if up else 'down'}")


def set_disk(machine: Machine, *, answers: bool) -> None:
    """Hold the disk's requests, as a dying disk does, or let go of them.

    One may pass; those after it wait for as many seconds as it has bytes. Raises HarnessError where
    QEMU does not say that it does so.
    """
    rate = 0 if answers else 1
    said = machine.monitor(f"block_set_io_throttle {_DISK} {rate} 0 0 0 0 0")
    blocks = machine.monitor("info block")
    if said or ("I/O throttling" in blocks) == answers:
        raise HarnessError(f"QEMU does not hold the disk's requests as asked: {said or blocks}")
    text = "the disk answers again" if answers else "the disk does not answer"
    machine.journal.append(Source.FAULT, "fired", text)


def set_clock(target: Target, date: str) -> None:
    """Set the guest's wall clock to ``date`` (UTC, ``YYYY-MM-DD hh:mm:ss``) and read it back."""
    deadline = target.deadline(_COMMAND)
    done = target.channel.exec(["date", "-u", "-s", date], deadline)
    read = target.channel.exec(["date", "-u", "+%Y-%m-%d %H:%M"], deadline)
    if done.exit != 0 or read.text != date[:16]:
        raise HarnessError(f"the guest's clock is {read.text!r} and not {date!r}: {done}")
    target.journal.append(Source.FAULT, "fired", f"clock set to {date}")
