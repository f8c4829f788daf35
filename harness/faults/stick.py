"""A USB stick that is plugged into a running machine, and pulled out again.

The machine needs a controller of the right name: ``extra=CONTROLLER`` in its specification.
"""

from __future__ import annotations

import itertools
from pathlib import Path

from harness.abilities import Ability
from harness.faults.disk import device_stats
from harness.faults.fault import Fault
from harness.journal.journal import Event, Source
from harness.qemu.machine import Machine

BUS = "sticks"
CONTROLLER = ("-device", f"qemu-xhci,id={BUS}")
# Seconds that the guest may take to let go of a device.
_PULL_SECONDS = 30.0


class Stick:
    """A raw ``image``, which only a ``writable`` one changes.

    ``rate`` limits its reading to bytes a second.
    """

    _numbers = itertools.count(1)

    def __init__(
        self, machine: Machine, image: Path, *, rate: int | None = None, writable: bool = False
    ) -> None:
        self._machine = machine
        self._image = image
        self._rate = rate
        self._read_only = not writable
        self._name = ""

    def plug(self) -> None:
        """Plug it in; each time it is another device to the guest."""
        assert not self._name, "it is plugged in already"
        number = next(self._numbers)
        node = f"stick{number}-data"
        machine = self._machine
        file = {"driver": "file", "filename": str(self._image), "read-only": self._read_only}
        disk = {"driver": "raw", "read-only": self._read_only, "file": file}
        if self._rate is None:
            machine.qmp("blockdev-add", **{"node-name": node, **disk})
        else:
            group = f"stick{number}-slow"
            limits = {"bps-read": self._rate}
            machine.qmp("object-add", **{"qom-type": "throttle-group", "id": group,
                                         "limits": limits})  # fmt: skip
            machine.qmp("blockdev-add", **{"node-name": node, "driver": "throttle",
                                           "throttle-group": group, "read-only": self._read_only,
                                           "file": disk})  # fmt: skip
        self._name = f"stick{number}"
        machine.qmp(
            "device_add", driver="usb-storage", id=self._name, bus=f"{BUS}.0", drive=node,
            removable=True,
        )  # fmt: skip
        machine.journal.append(Source.FAULT, "fired", f"USB stick {self._image.name} plugged in")

    def pull(self) -> None:
        """Pull it out; returns when QEMU has no such device any more."""
        assert self._name, "it is not plugged in"
        machine, name = self._machine, self._name
        since = machine.journal.cursor
        machine.qmp("device_del", id=name)

        wait_unplugged(machine, name, since)
        self._name = ""
        machine.journal.append(Source.FAULT, "fired", f"USB stick {self._image.name} pulled out")

    @property
    def bytes_read(self) -> int:
        """How much the machine has read of it since it was plugged in."""
        disk = f"/machine/peripheral/{self._name}/{self._name}.0/legacy[0]"
        return device_stats(self._machine, disk)["rd_bytes"]

    @property
    def machine(self) -> Machine:
        """Where it is plugged in."""
        return self._machine

    def __str__(self) -> str:
        return self._image.name


class PulledStick(Fault):
    """A stick that is plugged in is pulled out; it stays out.

    It has fired where the machine had read of it before, and QEMU says that it is gone.
    """

    ability = Ability.USB_HOTPLUG

    def __init__(self, stick: Stick) -> None:
        super().__init__(stick.machine.journal, f"the USB stick {stick} is pulled out")
        self._stick = stick
        self._read = 0

    def arm(self) -> None:
        """Pull it out."""
        self._read = self._stick.bytes_read
        self._stick.pull()

    def lift(self) -> None:
        """Whoever wants it back plugs it in."""

    def look(self) -> tuple[int, str]:
        """Bytes that had been read."""
        return self._read, f"{self._read} bytes of it had been read"


def wait_unplugged(machine: Machine, name: str, since: int) -> None:
    """Return when QEMU has said after journal cursor ``since`` that the device is gone."""

    def gone(event: Event) -> bool:
        return (event.source, event.kind, event.text) == (
            Source.QMP, "event", "DEVICE_DELETED",
        ) and event.data.get("device") == name  # fmt: skip

    deadline = machine.deadline(_PULL_SECONDS)
    machine.journal.wait(gone, f"the end of {name}", deadline, since=since)
