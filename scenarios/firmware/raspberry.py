"""The boot choice of a Raspberry Pi's firmware (EEPROM), without its hardware.

The rules are those of Raspberry Pi's documentation ("autoboot.txt", "Raspberry Pi boot EEPROM") and
of reports about what releases of the firmware do differently, which ``Traits`` names. What lies on
the card is a mapping of partition numbers to file systems: the model reads no disk itself.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.errors import HarnessError
from product.disk.autoboot import MAX_PARTITION, NAME, Choice, choose, parse_reboot
from product.disk.fat import FAT32_CLUSTERS


class UnbootableError(HarnessError):
    """The firmware finds nothing to boot; a Pi shows its diagnostics and stays there."""


class FatKind(enum.StrEnum):
    """What a FAT was formatted as."""

    FAT16 = "fat16"
    FAT32 = "fat32"


@dataclass(frozen=True, slots=True)
class Volume:
    """A FAT of the card: the content of its small files by name, None for one that is only there.

    ``clusters`` is how many the file system has.
    """

    files: Mapping[str, bytes | None]
    kind: FatKind = FatKind.FAT32
    clusters: int = 200_000

    @property
    def readable(self) -> bool:
        """Whether the firmware takes it for what it is: it goes by the number of clusters."""
        return self.kind is not FatKind.FAT32 or self.clusters >= FAT32_CLUSTERS


@dataclass(frozen=True, slots=True)
class Traits:
    """What differs between boards and releases of the firmware.

    ``needs`` is the file that makes a partition bootable: start4.elf on a Pi 4, config.txt on a
    Pi 5. ``knows_tryboot`` and ``knows_a_b``: releases before 2022 ignore the flag, or the filter
    in autoboot.txt. ``walks`` is PARTITION_WALK=1. ``tells`` whether it leaves the nodes under
    ``chosen/bootloader``.
    """

    needs: str = "config.txt"
    knows_tryboot: bool = True
    knows_a_b: bool = True
    walks: bool = False
    tells: bool = True


@dataclass(frozen=True, slots=True)
class Boot:
    """A decision: the partition, the file that takes the place of config.txt, and ``nodes``, the
    numbers under ``chosen/bootloader`` of the device tree."""

    partition: int
    tryboot: bool
    config: str
    nodes: Mapping[str, int]


@dataclass(slots=True)
class RaspberryFirmware:
    """What outlives a reset and no power cut: the one-shot flag, and the partition asked for."""

    traits: Traits = field(default_factory=Traits)
    flag: bool = False
    requested: int = 0

    def power_cut(self) -> None:
        """The registers lose what they held."""
        self.flag, self.requested = False, 0

    def restart(self, argument: str) -> None:
        """Reboot(2) with an argument, by a kernel that passes it on: ``0 tryboot``, ``3``."""
        self.requested, self.flag = parse_reboot(argument)

    def watchdog_reset(self, left: int = 63) -> None:
        """A reset without a word of the system's; ``left`` is what the register then holds."""
        self.requested = left

    def boot(self, card: Mapping[int, Volume]) -> Boot:
        """Choose, clearing the flag first: whatever becomes of the boot, it counts once.

        Raises UnbootableError.
        """
        tryboot, requested = self.flag and self.traits.knows_tryboot, self.requested
        self.power_cut()
        if requested > MAX_PARTITION:
            requested = 0
        choice = self._choose(card, tryboot, requested)
        number = self._bootable(card, choice.partition, requested)
        config = "tryboot.txt" if tryboot and not choice.a_b else "config.txt"
        if config == "tryboot.txt" and config not in card[number].files:
            raise UnbootableError(f"partition {number} has no {config}, which the flag asks for")
        nodes = {"partition": number, "tryboot": int(tryboot)} if self.traits.tells else {}
        return Boot(number, tryboot, config, nodes)

    def _choose(self, card: Mapping[int, Volume], tryboot: bool, requested: int) -> Choice:
        first = next((card[number] for number in sorted(card) if card[number].readable), None)
        data = (first.files.get(NAME) if first else None) or b""
        known = tryboot and self.traits.knows_a_b
        choice = choose(data, tryboot=known, partition=requested)
        if not self.traits.knows_a_b:
            # It reads boot_partition, and takes the flag for a matter of files.
            choice = choice._replace(a_b=not tryboot)
        # A partition that the reset named goes before the file's.
        return choice._replace(partition=requested) if requested else choice

    def _bootable(self, card: Mapping[int, Volume], number: int, requested: int) -> int:
        boots = [n for n in sorted(card) if card[n].readable and self.traits.needs in card[n].files]
        if number == 0:
            if boots:
                return boots[0]
            raise UnbootableError(f"no FAT of the card has {self.traits.needs}")
        if number in boots:
            return number
        later = [n for n in boots if n > number] + [n for n in boots if n < number]
        if self.traits.walks and later:
            return later[0]
        by = "the reset" if requested else NAME
        raise UnbootableError(
            f"{by} names partition {number}, which is no FAT with {self.traits.needs}; "
            f"bootable are {boots}"
        )
