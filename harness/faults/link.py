"""The network cable."""

from __future__ import annotations

from harness.errors import HarnessError
from harness.faults.clock import COMMAND_SECONDS
from harness.journal.journal import Source
from harness.qemu.machine import Machine

_INTERFACES = 'cd /sys/class/net && for i in *; do [ "$i" = lo ] || cat "$i/carrier"; done'


def set_link(machine: Machine, *, up: bool) -> None:
    """Plug the network cable in or out; the guest's own view of its carrier is the proof.

    Raises HarnessError where the guest sees no change.
    """
    machine.qmp("set_link", name="net0", up=up)
    deadline = machine.deadline(COMMAND_SECONDS)
    wanted = "1" if up else "0"
    # The device's interrupt reaches the guest before its next command does, but its work queue may
    # come later: the guest itself waits for the change.
    script = f'until [ "$({_INTERFACES})" = {wanted} ]; do :; done'
    done = machine.channel.exec(["/bin/sh", "-c", script], deadline)
    if done.exit != 0:
        raise HarnessError(f"the guest's link did not go {'up' if up else 'down'}: {done}")
    machine.journal.append(Source.FAULT, "fired", f"network link {'up' if up else 'down'}")
