"""What differs between the architectures that a guest may have."""

from __future__ import annotations

import enum
import platform
from dataclasses import dataclass

# An Atom that executes in order: the kernel knows that it needs no mitigation, and UEFI does not
# look for what AMD's processors have to encrypt memory.
_IN_ORDER = "vendor=GenuineIntel,family=6,model=28,stepping=10"
# The second level of x86-64 and what its processors have besides; QEMU's models of such processors
# cost more than they give.
_X86_64 = (
    f"qemu64,{_IN_ORDER},"
    "+ssse3,+sse4.1,+sse4.2,+popcnt,+aes,+pclmulqdq,+bmi1,+bmi2,+adx,+movbe,+sha-ni"
)

_Q35 = "vmport=off,sata=off,smbus=off,i8042=off"


# What /proc/cpuinfo says of a processor's kind, on x86_64 and on aarch64; the rest changes by the
# minute or by the core.
_KIND = frozenset(
    {"vendor_id", "cpu family", "model", "model name", "stepping", "flags"}
    | {"CPU implementer", "CPU architecture", "CPU variant", "CPU part", "CPU revision", "Features"}
)


def host_processor() -> str:
    """The host's kinds of processor, with what they can do."""
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        fields = (line.partition(":") for line in file)
        kinds = {f"{name.strip()}: {value.strip()}" for name, _, value in fields}
    return "\n".join(sorted(kind for kind in kinds if kind.partition(":")[0] in _KIND))


class Firmware(enum.StrEnum):
    """What a machine runs before its boot loader."""

    UEFI = "uefi"
    BIOS = "bios"


@dataclass(frozen=True, slots=True)
class FirmwareFiles:
    """UEFI's code and the template of its variables, below the tools' root."""

    code: str
    variables: str


class Arch(enum.StrEnum):
    """A guest's architecture, named as platform.machine() names it."""

    X86_64 = "x86_64"
    AARCH64 = "aarch64"

    @property
    def qemu(self) -> str:
        """The emulator's program."""
        return f"qemu-system-{self.value}"

    @property
    def is_hosts(self) -> bool:
        """Whether this host's processor can run its guests."""
        return platform.machine() == self.value

    def machine(self, *, secure_boot: bool = False) -> str:
        """QEMU's machine type, without what costs start-up time and serves nobody here: on x86_64
        a SATA controller with no disk alone is a twenty-fifth of a boot, by the modules that drive
        it. On aarch64 the newest interrupt controller: emulating an older one's is dearer.

        With ``secure_boot`` x86_64 has the mode in which alone the firmware may write its flash.
        """
        if self is Arch.AARCH64:
            return "virt,gic-version=max"
        return f"q35,smm={'on' if secure_boot else 'off'},{_Q35}"

    def cpu(self, accelerator: str) -> str:
        """The processor: the host's under KVM, else the one that TCG emulates fastest.

        Measured to a prompt: OVMF with qemu64 8.3 s, with max 10.4 s; what processors of the second
        x86-64 level have for ciphers and digests makes Kubernetes start a tenth faster, and a
        processor without mitigations makes every boot half a second shorter. On aarch64
        plain max pays for pointer authentication at every call; older processors pay at every
        system call, because there a kernel with a random address keeps page tables apart: a third
        more for a start of Python or Kubernetes.
        """
        if accelerator == "kvm":
            return "host"
        return _X86_64 if self is Arch.X86_64 else "max,pauth=off,sve=off,sme=off"

    def firmware_files(self, *, secure_boot: bool = False) -> FirmwareFiles:
        """UEFI without Secure Boot, or with it: enforced, with Microsoft's keys enrolled."""
        return _FIRMWARE[self, secure_boot]

    @property
    def firmwares(self) -> frozenset[Firmware]:
        """What its machines can boot with."""
        both = frozenset(Firmware)
        return both if self is Arch.X86_64 else frozenset({Firmware.UEFI})

    @property
    def serial(self) -> str:
        """The kernel's name of the console that QEMU's first serial port is."""
        return "ttyS0" if self is Arch.X86_64 else "ttyAMA0"

    @property
    def has_generation_id(self) -> bool:
        """Whether QEMU's machine can tell a guest that it was forked (vmgenid)."""
        return self is Arch.X86_64


_FIRMWARE = {
    (Arch.X86_64, False): FirmwareFiles(
        "usr/share/OVMF/OVMF_CODE_4M.fd", "usr/share/OVMF/OVMF_VARS_4M.fd"
    ),
    (Arch.X86_64, True): FirmwareFiles(
        "usr/share/OVMF/OVMF_CODE_4M.secboot.fd", "usr/share/OVMF/OVMF_VARS_4M.ms.fd"
    ),
    (Arch.AARCH64, False): FirmwareFiles(
        "usr/share/AAVMF/AAVMF_CODE.no-secboot.fd", "usr/share/AAVMF/AAVMF_VARS.fd"
    ),
    (Arch.AARCH64, True): FirmwareFiles(
        "usr/share/AAVMF/AAVMF_CODE.secboot.fd", "usr/share/AAVMF/AAVMF_VARS.ms.fd"
    ),
}
