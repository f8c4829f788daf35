"""From a machine's specification to QEMU's command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.qemu.arch import Arch, Firmware
from harness.qemu.board import Board
from harness.qemu.spec import MachineSpec
from harness.qemu.tools import HostTools
from product.channel.framing import PORT_NAME

# The first volume descriptor of an ISO 9660 file system.
_ISO_OFFSET, _ISO_MAGIC = 0x8001, b"CD001"


@dataclass(frozen=True, slots=True)
class Streams:
    """Descriptors of QEMU's ends of its connected sockets; ``tpm`` leads to a software TPM."""

    qmp: int
    console: int
    channel: int
    tpm: int | None = None

    def all(self) -> tuple[int, ...]:
        """In a fixed order."""
        three = (self.qmp, self.console, self.channel)
        return three if self.tpm is None else (*three, self.tpm)


@dataclass(frozen=True, slots=True)
class Storage:
    """What a machine writes: overlays of its disk and of UEFI's variables, a copy of its seed."""

    disk: Path | None
    variables: Path | None
    seed: Path | None = None

    @property
    def write_log(self) -> Path | None:
        """Where the writes of the disk are logged, for a machine that does so."""
        return self.disk.with_suffix(".writes") if self.disk else None


def build(
    spec: MachineSpec,
    tools: HostTools,
    accelerator: str,
    storage: Storage,
    streams: Streams,
    *,
    incoming: bool = False,
) -> list[str]:
    """The whole command; the machine starts paused, so that QMP is there before the first event.

    With ``incoming`` it waits for the state of a migrated machine, to be named over QMP.
    """
    arch = spec.arch
    if spec.board is not Board.VIRTUAL:
        return tools.argv(arch.qemu, *_board(spec, storage, streams), *spec.extra)
    machine = f"{arch.machine(secure_boot=spec.secure_boot)},accel={accelerator}"
    arguments = ["-no-user-config", "-nodefaults", "-display", "none", "-S"]
    if spec.firmware is Firmware.UEFI and storage.variables is not None:
        code = tools.path(spec.firmware_files.code)
        arguments += _block("code", code, "raw", read_only=True)
        arguments += _block("variables", storage.variables, "qcow2")
        machine += ",pflash0=code,pflash1=variables"
        if spec.secure_boot and arch is Arch.X86_64:
            # Else the guest could enrol keys of its own.
            arguments += ["-global", "driver=cfi.pflash01,property=secure,value=on"]
    arguments += ["-machine", machine, "-cpu", arch.cpu(accelerator)]
    arguments += ["-m", str(spec.memory_mib), "-smp", str(spec.cpus)]
    arguments += ["-rtc", f"base={spec.rtc}"]
    if arch is Arch.AARCH64:
        # The firmware waits five seconds for a key unless its splash time is set.
        arguments += ["-boot", "menu=on,splash-time=0"]
    arguments += _streams(streams)
    if storage.disk is not None:
        if spec.log_writes:
            arguments += _logged("disk", storage.disk)
        else:
            arguments += _block("disk", storage.disk, "qcow2")
        # QEMU gives a kernel of its own the first place in the firmware's order.
        for device in spec.disk_bus.devices(first=spec.kernel is None):
            if spec.log_writes and device.startswith("virtio-blk-pci,"):
                # Each of the guest's requests is one in the log, of the size that it had.
                device += ",request-merging=off"
            arguments += ["-device", device]
    if storage.seed is not None:
        arguments += _block("seed", storage.seed, "raw", read_only=_is_iso(storage.seed))
        for device in spec.seed_bus.devices:
            arguments += ["-device", device]
    if spec.cdrom is not None:
        arguments += _block("cdrom", spec.cdrom, "raw", read_only=True)
        for device in spec.cdrom_bus.devices:
            arguments += ["-device", device]
    if spec.kernel is not None:
        arguments += ["-kernel", str(spec.kernel), "-append", spec.append]
    if spec.initrd is not None:
        arguments += ["-initrd", str(spec.initrd)]
    arguments += ["-object", "rng-random,id=entropy,filename=/dev/urandom"]
    arguments += ["-device", "virtio-rng-pci,rng=entropy"]
    if spec.network:
        arguments += ["-netdev", "user,id=net0"]
        for device in spec.network_card.devices("net0"):
            arguments += ["-device", device]
    if arch.has_generation_id:
        arguments += ["-device", "vmgenid,guid=auto"]
    if streams.tpm is not None:
        arguments += ["-chardev", f"socket,id=tpm,fd={streams.tpm}"]
        arguments += ["-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm0"]
    if spec.watchdog:
        arguments += [*spec.watchdog_device.arguments, "-action", "watchdog=reset"]
    for text in spec.smbios or ():
        arguments += ["-smbios", f"type=11,value={text}"]
    for name, text in spec.fw_cfg or ():
        arguments += ["-fw_cfg", f"name={name},string={text}"]
    if incoming:
        arguments += ["-incoming", "defer"]
    return tools.argv(arch.qemu, *arguments, *spec.extra)


def _board(spec: MachineSpec, storage: Storage, streams: Streams) -> list[str]:
    """A board's first serial line is the channel, its second the console.

    One thread emulates all cores: with one each, three would wait for work in busy loops. The
    network card is plugged in by whoever waits for the boot loader (see harness.qemu.machine).
    """
    arguments = ["-no-user-config", "-nodefaults", "-display", "none", "-S"]
    arguments += ["-machine", spec.board.value, "-accel", "tcg,thread=single"]
    arguments += ["-kernel", str(spec.kernel), "-dtb", str(spec.device_tree)]
    arguments += [
        "-chardev", f"socket,id=qmp,fd={streams.qmp}",
        "-mon", "chardev=qmp,mode=control",
        "-chardev", f"socket,id=channel,fd={streams.channel}",
        "-chardev", f"socket,id=console,fd={streams.console}",
        "-serial", "chardev:channel",
        "-serial", "chardev:console",
    ]  # fmt: skip
    if storage.disk is not None:
        file = escaped(storage.disk)
        arguments += ["-drive", f"if=sd,id=disk,format=qcow2,file={file}"]
    if spec.network:
        arguments += ["-netdev", "user,id=net0"]
    return arguments


def escaped(path: Path) -> str:
    """A path as an option's value, where a comma would end it."""
    return str(path).replace(",", ",,")


def _streams(streams: Streams) -> list[str]:
    return [
        "-chardev",
        f"socket,id=qmp,fd={streams.qmp}",
        "-mon",
        "chardev=qmp,mode=control",
        "-chardev",
        f"socket,id=console,fd={streams.console}",
        "-serial",
        "chardev:console",
        "-chardev",
        f"socket,id=channel,fd={streams.channel}",
        "-device",
        "virtio-serial-pci",
        "-device",
        f"virtserialport,chardev=channel,name={PORT_NAME}",
    ]


def _logged(node: str, path: Path) -> list[str]:
    """A qcow2 disk whose writes are logged beside it."""
    log = escaped(path.with_suffix(".writes"))
    return [
        *_block(f"{node}-data", path, "qcow2"),
        "-blockdev",
        f"driver=file,node-name={node}-log,filename={log}",
        "-blockdev",
        f"driver=blklogwrites,node-name={node},file={node}-data,log={node}-log",
    ]


def _is_iso(path: Path) -> bool:
    """Whether a disk is an ISO 9660 file system, which nobody can write to."""
    with path.open("rb") as stream:
        stream.seek(_ISO_OFFSET)
        return stream.read(len(_ISO_MAGIC)) == _ISO_MAGIC


def _block(node: str, path: Path, kind: str, *, read_only: bool = False) -> list[str]:
    """A block device's two layers: the file and its format."""
    lock = ",read-only=on" if read_only else ""
    name = escaped(path)
    return [
        "-blockdev",
        f"driver=file,node-name={node}-file,filename={name}{lock}",
        "-blockdev",
        f"driver={kind},node-name={node},file={node}-file{lock}",
    ]
