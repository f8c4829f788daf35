"""A second disk that carries the labels of the boot disk.

It is plugged in on USB, where the machine needs ``extra=CONTROLLER`` of ``harness.faults.stick``,
or into a slot of PCI Express, where it needs ``extra=SLOT``. At the next boot a USB disk comes
late, after the boot disk was found; one in a slot comes at the same moment as it.
"""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

from harness.abilities import Ability
from harness.errors import HarnessError
from harness.faults.disk import device_stats
from harness.faults.fault import Fault
from harness.faults.stick import BUS, wait_unplugged
from harness.qemu import storage
from harness.qemu.devices import DiskBus
from harness.qemu.machine import Machine

_PORT = "twins"
SLOT = ("-device", f"pcie-root-port,id={_PORT},chassis=100,slot=100")


class SecondDisk(Fault):
    """A copy of the machine's disk as it is now, or of ``image``; nothing written to it is kept.

    It has fired once the guest has read it. It is unplugged at the end, and by a power cut.
    """

    ability = Ability.SECOND_DISK
    _numbers = itertools.count(1)

    def __init__(
        self, machine: Machine, image: Path | None = None, *, bus: DiskBus = DiskBus.USB
    ) -> None:
        """``bus`` is USB or VIRTIO, which is the slot."""
        if bus not in (DiskBus.USB, DiskBus.VIRTIO):
            raise HarnessError(
                f"a second disk cannot be plugged in on {bus}", hint="take USB or VIRTIO"
            )
        whose = f"the image {image.name}" if image else "the boot disk"
        super().__init__(machine.journal, f"a second disk is a copy of {whose}")
        self._machine = machine
        self._image = image
        self._bus = bus
        self.name = ""
        self._reads = self._writes = 0

    @property
    def node(self) -> str:
        """QEMU's name of its block node."""
        return f"{self.name}-data"

    @property
    def writes(self) -> int:
        """How often the guest has written to it."""
        self.look()
        return self._writes

    def arm(self) -> None:
        """Plug it in. Raises HarnessError for a machine without a disk."""
        machine = self._machine
        self.name = f"twin{next(self._numbers)}"
        image = self._image or self._copy()
        kind = storage.format_of(image)
        file = {"driver": "file", "filename": str(image), "read-only": True}
        base = {"driver": kind, "read-only": True, "file": file}
        # A USB stick that cannot be written would be told from the boot disk by that.
        scratch = machine.process.directory / f"{self.name}.qcow2"
        size = machine.spec.disk_size_mib << 20
        storage.overlay(machine.host.tools, image, scratch, size, kind=kind)
        own = {"driver": "file", "filename": str(scratch)}
        machine.qmp(
            "blockdev-add", node_name=self.node, driver="qcow2", file=own, backing=base,
        )  # fmt: skip
        usb = self._bus is DiskBus.USB
        driver, bus = ("usb-storage", f"{BUS}.0") if usb else ("virtio-blk-pci", _PORT)
        machine.qmp("device_add", driver=driver, id=self.name, bus=bus, drive=self.node)

    def _copy(self) -> Path:
        """A copy of what the disk's overlay holds; the machine stands still meanwhile."""
        machine = self._machine
        disk = machine.storage.disk
        if disk is None:
            raise HarnessError(f"{machine.name} has no disk that could be copied")
        copy = machine.process.directory / f"{self.name}-copy.qcow2"
        # A machine that is stopped has written out what QEMU keeps of the disk.
        machine.qmp("stop")
        try:
            shutil.copyfile(disk, copy)
        finally:
            machine.qmp("cont")
        return copy

    def lift(self) -> None:
        """Unplug it."""
        if self._machine.running and self.name:
            since = self._machine.journal.cursor
            self._machine.qmp("device_del", id=self.name)
            wait_unplugged(self._machine, self.name, since)
        self.name = ""

    def look(self) -> tuple[int, str]:
        """Reads that QEMU counted for its device."""
        if self._machine.running and self.name:
            device = f"/machine/peripheral/{self.name}"
            # USB storage is a SCSI disk on a bus of its own.
            usb = self._bus is DiskBus.USB
            disk = f"{device}/{self.name}.0/legacy[0]" if usb else f"{device}/virtio-backend"
            stats = device_stats(self._machine, disk)
            self._reads, self._writes = stats["rd_operations"], stats["wr_operations"]
        return self._reads, f"it was read {self._reads} times and written {self._writes} times"
