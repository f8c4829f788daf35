"""The label of a file system that the node does not read releases from: exFAT, NTFS and ext4.

For one sentence to whoever plugged it in. Offsets are those of Microsoft's exFAT specification, of
NTFS's boot sector and file records, and of struct ext4_super_block. Whatever does not fit is a
label that is not known.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from contextlib import suppress

from product.disk.labels import Volume

_EXFAT_LABEL, _ENTRY = 0x83, 32
# A root folder has its label at its front.
_EXFAT_BYTES = 16 * 1024
_NTFS_VOLUME_RECORD, _NTFS_VOLUME_NAME, _NTFS_LAST = 3, 0x60, 0xFFFFFFFF
_NTFS_MOST_BYTES = 64 * 1024
_EXT_SUPER, _EXT_MAGIC = 1024, b"\x53\xef"


def read_foreign(path: str) -> Volume | None:
    """What lies on a device or in a file; None for all other file systems, and for none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        boot = os.pread(descriptor, 512, 0)
        if boot[3:11] == b"EXFAT   ":
            return Volume("exfat", _known(_exfat, descriptor, boot))
        if boot[3:11] == b"NTFS    ":
            return Volume("ntfs", _known(_ntfs, descriptor, boot))
        block = os.pread(descriptor, 1024, _EXT_SUPER)
        if block[0x38:0x3A] == _EXT_MAGIC:
            label = block[0x78:0x88].partition(b"\0")[0].decode("utf-8", "replace")
            return Volume("ext4", (label,) if label else ())
    except OSError:
        return None  # no medium, or one that fails
    finally:
        os.close(descriptor)
    return None


def _known(read: Callable[[int, bytes], str], descriptor: int, boot: bytes) -> tuple[str, ...]:
    """The label by ``read``; none where the medium's numbers lead nowhere."""
    with suppress(OSError, ValueError, struct.error, OverflowError):
        label = read(descriptor, boot)
        return (label,) if label else ()
    return ()


def _exfat(descriptor: int, boot: bytes) -> str:
    heap, clusters, root = struct.unpack_from("<III", boot, 88)
    sector, cluster = boot[108], boot[108] + boot[109]
    if not 9 <= sector <= 12 or cluster > 25 or not 2 <= root < clusters + 2:
        return ""
    at = (heap << sector) + ((root - 2) << cluster)
    entries = os.pread(descriptor, min(1 << cluster, _EXFAT_BYTES), at)
    for start in range(0, len(entries) - _ENTRY + 1, _ENTRY):
        kind, length = entries[start], entries[start + 1]
        if kind == 0:
            break
        if kind == _EXFAT_LABEL and length <= 11:
            return entries[start + 2 : start + 2 + 2 * length].decode("utf-16-le")
    return ""


def _ntfs(descriptor: int, boot: bytes) -> str:
    sector, per_cluster = struct.unpack_from("<HB", boot, 11)
    (table,) = struct.unpack_from("<Q", boot, 48)
    (size,) = struct.unpack_from("<b", boot, 64)
    cluster = sector * per_cluster
    record = size * cluster if size > 0 else 1 << -size
    if sector not in (512, 1024, 2048, 4096) or not per_cluster:
        return ""
    if not 512 <= record <= _NTFS_MOST_BYTES:
        return ""
    data = os.pread(descriptor, record, table * cluster + _NTFS_VOLUME_RECORD * record)
    if data[:4] != b"FILE":
        return ""
    (at,) = struct.unpack_from("<H", data, 20)
    while at + 24 <= len(data):
        kind, length = struct.unpack_from("<II", data, at)
        if kind == _NTFS_LAST or length < 24:
            break
        if kind == _NTFS_VOLUME_NAME and not data[at + 8]:
            (size, start) = struct.unpack_from("<IH", data, at + 16)
            return data[at + start : at + start + min(size, 256)].decode("utf-16-le")
        at += length
    return ""
