"""The network cable of a machine."""

from __future__ import annotations

from harness.errors import ChannelError, DeadlineError, HarnessError
from harness.faults.clock import COMMAND_SECONDS
from harness.journal.journal import Source
from harness.qemu.machine import Machine

_INTERFACES = "/sys/class/net"

# In the guest, with the folder of its interfaces, an address and a carrier: wait until the card has
# it. A bridge may have taken over the card's address, but is no device. A card that is switched off
# has a carrier that cannot be read.
WAIT = """
for one in "$1"/*; do
    [ -e "$one/device" ] && [ "$(cat "$one/address")" = "$2" ] && card=$one
done
[ -n "$card" ] || { echo "no network card has the address $2" >&2; exit 2; }
echo "${card##*/}"
until [ "$(cat "$card/carrier" 2> /dev/null)" = "$3" ]; do sleep 0.1; done
"""


def pull_cable(machine: Machine) -> None:
    """Pull the network cable out before the guest runs, which therefore cannot prove it."""
    machine.qmp("set_link", name="net0", up=False)
    machine.journal.append(Source.FAULT, "fired", "network link down")


def set_link(machine: Machine, *, up: bool) -> None:
    """Plug the network cable in or out; the guest's own view of its carrier is the proof.

    Other interfaces of the guest, such as a bridge of pods, may do what they want. Raises
    HarnessError where the guest sees no change.
    """
    state = "up" if up else "down"
    address = str(machine.qmp("qom-get", path="/machine/peripheral/nic0", property="mac"))
    machine.qmp("set_link", name="net0", up=up)
    # The device's interrupt reaches the guest before its next command does, but its work queue may
    # come later: the guest itself waits for the change.
    argv = ["/bin/sh", "-c", WAIT, "sh", _INTERFACES, address, "1" if up else "0"]
    try:
        done = machine.channel.exec(argv, machine.deadline(COMMAND_SECONDS))
    except (ChannelError, DeadlineError) as error:
        raise HarnessError(f"the guest's link did not go {state}: {error.message}") from error
    if done.exit != 0:
        raise HarnessError(f"the guest's link did not go {state}: {done}")
    machine.journal.append(Source.FAULT, "fired", f"network link {state}")
