"""What a machine shall be, before there is one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness.profile import Profile
from harness.qemu.arch import Arch, Firmware, FirmwareFiles
from harness.qemu.board import Board
from harness.qemu.devices import DiskBus, MediumBus, NetworkCard, Raspberry, SeedBus, Watchdog

# What QEMU itself takes beyond the guest's memory, translated code included (measured: 180 MiB at
# most on x86_64).
OVERHEAD_MIB = 200


class MachineSpec(BaseModel):
    """A virtual machine; two equal specs behave alike.

    ``image`` is a disk image, raw or as qcow2, VMDK or VHDX, and is never written: the machine
    writes into an overlay of ``disk_size_mib``. With ``kernel`` QEMU loads that one, its ``initrd``
    and its command line ``append`` in place of what the disk would boot, and may go without a disk.
    ``smbios`` are OEM strings (SMBIOS type 11) and ``fw_cfg`` names below ``opt/`` with texts, the
    guest's credentials; None for what the system's profile hands to every machine. ``secure_boot``
    has UEFI refuse a boot loader that neither Microsoft nor a shim's vendor signed; ``variables``
    are UEFI's in place of the firmware's own, with the keys of somebody else, say. ``raspberry``
    has a model of that firmware choose kernel and command line from the disk, at each boot.
    ``rtc`` is what the
    hardware clock shows at the start: "utc" or a date like 2020-01-01T00:00:00. With ``log_writes``
    every write of the disk is kept in order, for ``harness.crash``. ``seed`` is a second disk on
    ``seed_bus``; the machine has its own copy, read-only where it is an ISO image. ``cdrom`` is an
    ISO image on ``cdrom_bus``, which is tried after the disk; with it and without ``image`` the
    disk is blank. With ``tpm`` it has a TPM 2.0 of its own, which keeps its state for as long as
    the machine is there. ``extra`` goes onto QEMU's command line as is.

    A ``board`` starts ``kernel``, its boot loader, with ``device_tree``, as its firmware would; it
    has an SD card, no SMBIOS and no watchdog, and its network is on USB.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    arch: Arch
    board: Board = Board.VIRTUAL
    device_tree: Path | None = None
    image: Path | None = None
    kernel: Path | None = None
    initrd: Path | None = None
    append: str = ""
    memory_mib: Annotated[int, Field(ge=128)] = 512
    cpus: Annotated[int, Field(ge=1, le=64)] = 1
    disk_size_mib: Annotated[int, Field(ge=64)] = 2560
    firmware: Firmware = Firmware.UEFI
    secure_boot: bool = False
    variables: Path | None = None
    disk_bus: DiskBus = DiskBus.VIRTIO
    log_writes: bool = False
    network: bool = True
    network_card: NetworkCard = NetworkCard.VIRTIO
    raspberry: Raspberry | None = None
    watchdog: bool = True
    watchdog_device: Watchdog = Watchdog.I6300ESB
    smbios: tuple[str, ...] | None = None
    fw_cfg: tuple[tuple[str, str], ...] | None = None
    rtc: Annotated[str, Field(pattern=r"^(utc|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)$")] = "utc"
    seed: Path | None = None
    seed_bus: SeedBus = SeedBus.VIRTIO
    cdrom: Path | None = None
    cdrom_bus: MediumBus = MediumBus.CD
    tpm: bool = False
    extra: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.firmware not in self.arch.firmwares:
            raise ValueError(f"{self.arch} machines have no {self.firmware} firmware")
        if self.secure_boot and self.firmware is not Firmware.UEFI:
            raise ValueError(f"secure_boot needs UEFI: {self.firmware} firmware has no Secure Boot")
        if self.variables is not None and self.firmware is not Firmware.UEFI:
            raise ValueError(f"variables are UEFI's: {self.firmware} firmware has none")
        if self.tpm and self.arch is not Arch.X86_64:
            raise ValueError(
                f"{self.arch} machines have no TPM: Debian's kernel has no driver for QEMU's"
            )
        if self.watchdog and not self.watchdog_device.is_of(self.arch):
            raise ValueError(f"{self.arch} machines have no watchdog {self.watchdog_device}")
        if self.disk_bus is DiskBus.SD and self.disk_size_mib.bit_count() != 1:
            raise ValueError(f"an SD card's size is a power of two, not {self.disk_size_mib} MiB")
        if self.raspberry and (self.arch is not Arch.AARCH64 or self.kernel or not self.image):
            raise ValueError("a Raspberry Pi's firmware boots aarch64, from an image")
        if self.image is None and self.kernel is None and self.cdrom is None:
            raise ValueError("a machine needs an image, a kernel or a CD to boot from")
        if self.kernel is None and (self.initrd is not None or self.append):
            raise ValueError("initrd and append need a kernel that they are for")
        for text in self.smbios or ():
            if "," in text or "\n" in text:
                raise ValueError(f"an SMBIOS string cannot hold commas or line ends: {text!r}")
        for name, text in self.fw_cfg or ():
            if not name.startswith("opt/") or "," in name + text:
                raise ValueError(f"fw_cfg has names below opt/, and no commas: {name}={text!r}")
        return self

    @model_validator(mode="after")
    def _fits_board(self) -> Self:
        board = self.board
        if board is Board.VIRTUAL:
            if self.device_tree is not None:
                raise ValueError("device_tree is for a board: QEMU's own machine makes its own")
            return self
        wanted: dict[str, object] = {
            "arch": board.arch, "memory_mib": board.memory_mib, "cpus": board.cores,
            "disk_bus": DiskBus.SD, "watchdog": False, "seed": None, "initrd": None, "append": "",
            "secure_boot": False, "log_writes": False, "tpm": False,
        }  # fmt: skip
        for name, value in wanted.items():
            if (given := getattr(self, name)) != value:
                raise ValueError(f"a {board} has {name}={value!r}, not {given!r}")
        if self.kernel is None or self.device_tree is None or self.image is None:
            raise ValueError(f"a {board} needs an image, a kernel to start and a device_tree")
        if self.network and self.network_card is not NetworkCard.USB:
            raise ValueError(f"a {board} has its network on USB, or none")
        return self

    def handing(self, profile: Profile) -> Self:
        """With the credentials of ``profile`` where it does not say its own."""
        missing = {
            name: getattr(profile, name)
            for name in ("smbios", "fw_cfg")
            if getattr(self, name) is None
        }
        return self.model_copy(update=missing) if missing else self

    @property
    def firmware_files(self) -> FirmwareFiles:
        """What UEFI is made of on this machine."""
        return self.arch.firmware_files(secure_boot=self.secure_boot)

    @property
    def threads(self) -> int:
        """How many of the host's cores its processors can keep busy."""
        return self.cpus if self.board is Board.VIRTUAL else 1

    @property
    def nice(self) -> int:
        """How far the machine gives way to others on the host. One with several processors never
        does: while one of them waits for its turn, the others wait for it in busy loops.
        """
        return 0 if self.threads > 1 else 10

    @property
    def pool_mib(self) -> int:
        """MiB of the host that the machine takes from the pool."""
        return self.memory_mib + OVERHEAD_MIB
