"""Console lines that mean that the guest, its boot loader or its firmware failed."""

from __future__ import annotations

import enum
import re
from typing import Protocol

from harness.profile import LINUX, Profile


class Named(Protocol):
    """A failure that the console shows: a Pattern, or a Failure of a profile."""

    @property
    def name(self) -> str:
        """What it is called in the journal."""
        ...


class Pattern(enum.Enum):
    """A named failure; the value is what its console line looks like.

    The order decides where a line fits several: the first match names it.
    """

    INIT_EXITED = r"Attempted to kill init"
    PANIC = r"Kernel panic - not syncing"
    KERNEL_BUG = r"kernel BUG at |\bBUG: (?!soft lockup)"
    OOPS = r"\bOops: |Internal error: Oops|Unable to handle kernel|general protection fault"
    SOFT_LOCKUP = r"soft lockup - CPU#"
    HARD_LOCKUP = r"hard LOCKUP"
    RCU_STALL = r"rcu: INFO: rcu\w* .*(?:self-)?detected .*stall"
    HUNG_TASK = r"blocked for more than \d+ seconds"
    OOM_KILL = r"Out of memory: Killed process|invoked oom-killer"
    SQUASHFS = r"SQUASHFS error"
    EXT4 = r"EXT4-fs error|EXT4-fs .*: (?:bad|corrupt)|JBD2: .*(?:error|IO failure)"
    DISK_IO = r"I/O error, dev \w+|Buffer I/O error on dev"
    GRUB = (
        r"^(?:error: (?:\.\./|file `|no such (?:device|partition|disk)|unknown filesystem|"
        r"invalid (?:magic|signature|arch|environment)|you need to load the kernel|out of memory|"
        r"premature end|failure (?:reading|writing)|attempt to read|bad shim signature|"
        r"bad signature|public key \w+ not found|cannot load image|verification requested)|"
        r".*grub rescue>)"
    )
    FIRMWARE = r"No bootable device|UEFI Interactive Shell|BdsDxe: No bootable option"


_TABLE = tuple((pattern, re.compile(pattern.value)) for pattern in Pattern)


def classify(line: str, profile: Profile = LINUX) -> Named | None:
    """The failure that ``line`` reports, of any Linux or of the profile's system, or None."""
    for pattern, expression in _TABLE:
        if expression.search(line):
            return pattern
    return profile.failure_in(line)
