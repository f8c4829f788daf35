"""GRUB for BIOS in the sectors before the first partition: two places for its core, one switch.

The MBR's code (``boot.img``) loads the core's first sector from the place that it names, and that
sector's block list says where the rest lies. A new core goes to the other place; then the MBR, one
sector, names it. Offsets are those of GRUB's boot.S and diskboot.S, and what grub-install writes.
"""

from __future__ import annotations

import struct

from product.disk.errors import DiskError
from product.disk.gpt import Disk

SECTOR = 512
# The partition table ends at sector 34, the first partition begins at 2048.
PLACES = (40, 1040)
MAX_SECTORS = 1000
# GRUB's code in the MBR; behind it are the disk's signature and the protective partition.
_CODE_BYTES = 440
_KERNEL_SECTOR_AT = 0x5C
# A jump that only floppies want is made void, as grub-install does.
_DRIVE_CHECK_AT = 0x66
_BLOCK_LIST_AT, _SEGMENT = 0x1F4, 0x820


def place_core(core: bytes, at: int) -> bytes:
    """The core as it lies from sector ``at`` on, whole sectors. Raises DiskError if too long."""
    sectors = -(-len(core) // SECTOR)
    if sectors > MAX_SECTORS or len(core) < SECTOR:
        raise DiskError(
            f"GRUB's BIOS core image has {len(core)} bytes, {MAX_SECTORS * SECTOR} are its room"
        )
    image = bytearray(core.ljust(sectors * SECTOR, b"\0"))
    struct.pack_into("<QHH", image, _BLOCK_LIST_AT, at + 1, sectors - 1, _SEGMENT)
    return bytes(image)


def boot_code(boot: bytes, at: int) -> bytes:
    """GRUB's part of the MBR, for a core in sector ``at``."""
    code = bytearray(boot[:_CODE_BYTES])
    struct.pack_into("<Q", code, _KERNEL_SECTOR_AT, at)
    code[_DRIVE_CHECK_AT : _DRIVE_CHECK_AT + 2] = b"\x90\x90"
    return bytes(code)


def is_installed(disk: Disk, boot: bytes, core: bytes) -> bool:
    """Whether the disk starts exactly these. Raises OSError, DiskError."""
    code = disk.read(0)[:_CODE_BYTES]
    (at,) = struct.unpack_from("<Q", code, _KERNEL_SECTOR_AT)
    if at not in PLACES or code != boot_code(boot, at):
        return False
    wanted = place_core(core, at)
    return disk.read(at, len(wanted) // SECTOR) == wanted


def install(disk: Disk, boot: bytes, core: bytes) -> None:
    """Put the core where none is started from, read it back, and switch. Raises OSError, DiskError.

    A power cut leaves the disk with the old one or the new one.
    """
    if disk.sector != SECTOR:
        raise DiskError(f"{disk.name} has sectors of {disk.sector} bytes, BIOS starts from 512")
    first = bytearray(disk.read(0))
    (at,) = struct.unpack_from("<Q", first, _KERNEL_SECTOR_AT)
    other = PLACES[1] if at == PLACES[0] else PLACES[0]
    wanted = place_core(core, other)
    disk.write(other, wanted)
    if disk.read_back(other, len(wanted) // SECTOR) != wanted:
        raise DiskError(f"{disk.name} does not give back what was written to sector {other}")
    first[:_CODE_BYTES] = boot_code(boot, other)
    disk.write(0, bytes(first))
