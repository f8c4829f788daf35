"""What a machine's disk, network and watchdog hang on: QEMU's devices that real machines have."""

from __future__ import annotations

import enum

from harness.qemu.arch import Arch

# The device that has the disk's contents, whatever it hangs on; disk0 is its name on QMP.
_DISK = "id=disk0,drive=disk"


class DiskBus(enum.StrEnum):
    """What the boot disk hangs on."""

    VIRTIO = "virtio"
    VIRTIO_SCSI = "virtio-scsi"
    NVME = "nvme"
    AHCI = "ahci"
    USB = "usb"
    SD = "sd"

    @property
    def path(self) -> str:
        """The boot disk in the guest, where no other disk hangs on the same kind of bus."""
        return {
            DiskBus.VIRTIO: "/dev/vda", DiskBus.NVME: "/dev/nvme0n1", DiskBus.SD: "/dev/mmcblk0",
        }.get(self, "/dev/sda")  # fmt: skip

    def devices(self, *, first: bool = True) -> tuple[str, ...]:
        """QEMU's devices, the controller before the disk, which the firmware tries ``first``.

        An SD card's size must be a power of two, and it has no place in the firmware's order.
        """
        disk = f"{_DISK},bootindex=0" if first else _DISK
        return {
            DiskBus.VIRTIO: (f"virtio-blk-pci,{disk}",),
            DiskBus.VIRTIO_SCSI: ("virtio-scsi-pci,id=scsi0", f"scsi-hd,bus=scsi0.0,{disk}"),
            DiskBus.NVME: (f"nvme,serial=disk0,{disk}",),
            DiskBus.AHCI: ("ich9-ahci,id=ahci0", f"ide-hd,bus=ahci0.0,{disk}"),
            DiskBus.USB: ("qemu-xhci,id=usb0", f"usb-storage,bus=usb0.0,{disk}"),
            DiskBus.SD: ("sdhci-pci,id=sd0", f"sd-card,bus=sd-bus,{_DISK}"),
        }[self]


class SeedBus(enum.StrEnum):
    """What a seed disk hangs on; seed0 is its name on QMP."""

    VIRTIO = "virtio"
    USB = "usb"

    @property
    def devices(self) -> tuple[str, ...]:
        """QEMU's devices, the controller before the disk; the firmware does not try it."""
        if self is SeedBus.USB:
            return (
                "qemu-xhci,id=usbseed",
                "usb-storage,bus=usbseed.0,id=seed0,drive=seed,removable=on",
            )
        return ("virtio-blk-pci,id=seed0,drive=seed",)


class MediumBus(enum.StrEnum):
    """What an ISO image is put into: a drive for CDs, or a stick; cd0 is its name on QMP.

    The firmware tries it after the disk.
    """

    CD = "cd"
    USB = "usb"

    @property
    def devices(self) -> tuple[str, ...]:
        """QEMU's devices, the controller before the drive."""
        if self is MediumBus.USB:
            return (
                "qemu-xhci,id=usbcd",
                "usb-storage,bus=usbcd.0,id=cd0,drive=cdrom,bootindex=1,removable=on",
            )
        return ("ich9-ahci,id=ahcicd", "ide-cd,bus=ahcicd.0,id=cd0,drive=cdrom,bootindex=1")


class NetworkCard(enum.StrEnum):
    """A network card, by QEMU's name; nic0 is its name on QMP."""

    VIRTIO = "virtio-net-pci"
    E1000 = "e1000"
    E1000E = "e1000e"
    IGB = "igb"
    RTL8139 = "rtl8139"
    VMXNET3 = "vmxnet3"
    USB = "usb-net"
    # For want of one, the image has no driver for it.
    PCNET = "pcnet"

    def devices(self, netdev: str, name: str = "nic0") -> tuple[str, ...]:
        """QEMU's devices; ``name`` is the card's on QMP.

        Without its ROM the firmware has nothing to try the network with.
        """
        if self is NetworkCard.USB:
            return ("qemu-xhci,id=usbnet", f"usb-net,bus=usbnet.0,id={name},netdev={netdev}")
        return (f"{self.value},id={name},netdev={netdev},romfile=",)


class Raspberry(enum.StrEnum):
    """Releases of a Raspberry Pi's firmware that a profile's ``raspberry`` plays: one that knows
    tryboot, one that ignores its flag, one that leaves nothing in the device tree."""

    CURRENT = "current"
    IGNORES_FLAG = "ignores-flag"
    SILENT = "silent"


class Watchdog(enum.StrEnum):
    """A hardware watchdog."""

    I6300ESB = "i6300esb"
    # Part of every q35 machine's chip set; like a real one it resets only where it is let to.
    ITCO = "itco"

    @property
    def arguments(self) -> tuple[str, ...]:
        """QEMU's arguments."""
        if self is Watchdog.ITCO:
            return ("-global", "ICH9-LPC.noreboot=off")
        return ("-device", self.value)

    def is_of(self, arch: Arch) -> bool:
        """Whether machines of ``arch`` can have it."""
        return self is Watchdog.I6300ESB or arch is Arch.X86_64
