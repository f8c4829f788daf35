"""A superblock of ext4 that a power cut has torn.

Linux writes it past the journal when it mounts and unmounts. It lies in two sectors of 512 bytes;
between these a cut leaves one half of before, and a checksum that does not fit. Linux then refuses
the file system, and e2fsck would take the backup, whose counts are those of the day it was made.
Each half is whole, and all that tells of the file system's shape stands in the first: so only the
checksum is made anew. The layout is that of Linux's Documentation/filesystems/ext4/super.rst.
"""

from __future__ import annotations

import os
import struct

from product.disk.errors import DiskError

_AT, _BYTES, _HALF = 1024, 1024, 512
_MAGIC_AT, _MAGIC = 56, 0xEF53
_RO_FEATURES_AT, _CHECKSUMS = 100, 0x400
_CHECKSUM_AT = 1020
# What no mount changes: the block's size; blocks, clusters and inodes of a group; the magic number;
# the revision; the inode's size; UUID and label.
_LASTING = ((24, 44), (56, 58), (76, 80), (84, 90), (104, 136))
# And the features, but for two that say whether the journal, or the file of orphans, is in use.
_FEATURES_AT, _IN_USE = 96, (0x4, 0x10000)


def mend(path: str) -> bool:
    """Let the checksum fit where a cut tore the superblock; whether it had to be.

    Raises DiskError where there is nothing that could be mended so, OSError.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        return _mend(descriptor, path)
    finally:
        os.close(descriptor)


def _mend(descriptor: int, path: str) -> bool:
    found = os.pread(descriptor, _BYTES, _AT)
    if not _is_one(found):
        raise DiskError(f"{path} has no superblock of ext4 with a checksum")
    if _fits(found):
        return False
    (log_size,) = struct.unpack_from("<I", found, 24)
    (first,) = struct.unpack_from("<I", found, 20)
    (per_group,) = struct.unpack_from("<I", found, 32)
    # The second group has a backup, whatever the features are.
    backup = os.pread(descriptor, _BYTES, (first + per_group) << (10 + min(log_size, 6)))
    if not _is_one(backup) or not _fits(backup):
        raise DiskError(f"{path} has a damaged superblock, and no backup to compare it with")
    alike = all(found[begin:end] == backup[begin:end] for begin, end in _LASTING)
    if not alike or _features(found) != _features(backup):
        raise DiskError(f"{path} has a superblock that is damaged, not torn")
    mended = found[:_CHECKSUM_AT] + struct.pack("<I", checksum(found[:_CHECKSUM_AT]))
    if os.pwrite(descriptor, mended[_HALF:], _AT + _HALF) != _HALF:
        raise OSError(28, "the sector was not taken whole")
    os.fsync(descriptor)
    return True


def _is_one(data: bytes) -> bool:
    if len(data) != _BYTES or struct.unpack_from("<H", data, _MAGIC_AT)[0] != _MAGIC:
        return False
    return bool(struct.unpack_from("<I", data, _RO_FEATURES_AT)[0] & _CHECKSUMS)


def _features(data: bytes) -> tuple[int, ...]:
    found = struct.unpack_from("<II", data, _FEATURES_AT)
    return tuple(value & ~in_use for value, in_use in zip(found, _IN_USE, strict=True))


def _fits(data: bytes) -> bool:
    (stored,) = struct.unpack_from("<I", data, _CHECKSUM_AT)
    return bool(stored == checksum(data[:_CHECKSUM_AT]))


def checksum(data: bytes) -> int:
    """CRC-32C as ext4 uses it, without an inversion at its end."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
    return value
