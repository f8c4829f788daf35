"""The network cable of a machine."""

from __future__ import annotations

from harness.abilities import Ability
from harness.errors import ChannelError, DeadlineError, HarnessError
from harness.faults.fault import Fault
from harness.qemu.machine import Machine

COMMAND_SECONDS = 20.0
_INTERFACES = "/sys/class/net"
_CARD = "nic0"

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


class LinkDown(Fault):
    """The network cable is out until the end of the context.

    It has fired once the guest itself has seen that its card has no carrier: at once where it takes
    commands, else as soon as it does. Other interfaces, such as a bridge of pods, may do what they
    want. Raises HarnessError where a guest that takes commands sees no change.
    """

    ability = Ability.LINK

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine.journal, "the network cable is out")
        self._machine = machine
        self._seen = ""
        self._out = False

    def arm(self) -> None:
        """Pull it out."""
        self._seen = ""
        self._machine.qmp("set_link", name=_CARD, up=False)
        self._out = True
        self.look()

    def lift(self) -> None:
        """Put it back; a guest that saw it go sees it come."""
        self._out = False
        if not self._machine.running:
            return
        self._machine.qmp("set_link", name=_CARD, up=True)
        if self._seen and self._machine.channel.up:
            self._wait("1")

    def look(self) -> tuple[int, str]:
        """The name of the card that has no carrier, as the guest says it."""
        if self._out and not self._seen and self._machine.running and self._machine.channel.up:
            self._seen = self._wait("0")
        if not self._seen:
            return 0, "no guest that takes commands has seen it"
        return 1, f"{self._seen} has no carrier"

    def _wait(self, carrier: str) -> str:
        """The guest's name of the card, once that has this carrier."""
        machine = self._machine
        address = str(machine.qmp("qom-get", path=f"/machine/peripheral/{_CARD}", property="mac"))
        # The device's interrupt reaches the guest before its next command does, but its work queue
        # may come later: the guest itself waits for the change.
        argv = ["/bin/sh", "-c", WAIT, "sh", _INTERFACES, address, carrier]
        state = "up" if carrier == "1" else "down"
        try:
            done = machine.channel.exec(argv, machine.deadline(COMMAND_SECONDS))
        except (ChannelError, DeadlineError) as error:
            raise HarnessError(f"the guest's link did not go {state}: {error.message}") from error
        if done.exit != 0:
            raise HarnessError(f"the guest's link did not go {state}: {done}")
        return done.text.strip()
