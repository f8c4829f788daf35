"""Boards that QEMU emulates: machines with a firmware, a card and serial lines of their own."""

from __future__ import annotations

import enum

from harness.qemu.arch import Arch


class Board(enum.StrEnum):
    """What the machine is; ``VIRTUAL`` is QEMU's own, with UEFI or BIOS.

    QEMU 10.0 has a raspi4b, but neither its PCIe nor its network.
    """

    VIRTUAL = "virtual"
    RASPI3B = "raspi3b"

    @property
    def arch(self) -> Arch | None:
        """The only architecture that it has; None where the specification says."""
        return None if self is Board.VIRTUAL else Arch.AARCH64

    @property
    def memory_mib(self) -> int | None:
        """The only memory that it has; None where the specification says."""
        return None if self is Board.VIRTUAL else 1024

    @property
    def cores(self) -> int | None:
        """The only number of cores; None where the specification says."""
        return None if self is Board.VIRTUAL else 4

    @property
    def console_line(self) -> str | None:
        """The kernel's name of the serial line that has the console; None where arch has it."""
        return None if self is Board.VIRTUAL else "ttyS1"

    @property
    def channel_line(self) -> str | None:
        """The kernel's name of the serial line for the command channel; None for a virtio port."""
        return None if self is Board.VIRTUAL else "ttyAMA0"

    @property
    def patience(self) -> float:
        """How many times as long as on QEMU's own machine a boot takes (measured: 60 s for 10)."""
        return 1.0 if self is Board.VIRTUAL else 6.0
