"""The device that ``kubesolo.data=`` names: a path, or LABEL=, UUID= or PARTUUID=.

LABEL and UUID are those of ext4, which the data file system is. Two devices that fit are an error:
the order of cloned disks must not decide what a node runs with.
"""

from __future__ import annotations

import os
import uuid

from product.disk.errors import DiskError
from product.disk.gpt import read_table
from product.disk.prepare import DATA_NAME, open_disk

# The partition that an installed system's disk has.
ESP_NAME = "KSOLOEFI"
# Offsets and the magic number are those of struct ext4_super_block, which lies at byte 1024.
_SUPER_OFFSET, _SUPER_BYTES = 1024, 1024
_MAGIC_AT, _MAGIC = 0x38, b"\x53\xef"
_UUID_AT, _LABEL_AT = 0x68, 0x78


def find(name: str, root: str = "/") -> str | None:
    """The device's path, or None while there is none; ``root`` moves /sys and /dev, for tests.

    Raises DiskError where two devices fit, or the form is unknown.
    """
    kind, equals, wanted = name.partition("=")
    if name.startswith("/dev/") and not equals:
        return name if os.path.exists(os.path.join(root, name[1:])) else None
    if kind not in ("LABEL", "UUID", "PARTUUID") or not wanted:
        raise DiskError(
            f"kubesolo.data={name} names no device",
            hint="give /dev/NAME, LABEL=, UUID= or PARTUUID=",
        )
    found = [
        f"/dev/{device}"
        for device in sorted(os.listdir(os.path.join(root, "sys/class/block")))
        if _fits(root, device, kind, wanted)
    ]
    if len(found) > 1:
        raise DiskError(
            f"kubesolo.data={name} fits {' and '.join(found)}",
            hint="unplug one of them, or name the device by something that only it has",
        )
    return found[0] if found else None


def find_for_live(root: str = "/") -> str | None:
    """A live system's data file system, ext4 labelled KSOLODATA; None where there is none.

    That of an installed system, whose disk has the partition KSOLOEFI, is never taken. Raises
    DiskError where two fit.
    """
    found = [
        f"/dev/{device}"
        for device in sorted(os.listdir(os.path.join(root, "sys/class/block")))
        if _fits(root, device, "LABEL", DATA_NAME) and not _is_installed(root, device)
    ]
    if len(found) > 1:
        raise DiskError(
            f"{' and '.join(found)} are both labelled {DATA_NAME}, and none is taken",
            hint="unplug one of them, or name the device: kubesolo.data=",
        )
    return found[0] if found else None


def _is_installed(root: str, device: str) -> bool:
    """Whether the device is a partition of a disk that has an installed system."""
    path = os.path.realpath(os.path.join(root, "sys/class/block", device))
    if not os.path.exists(os.path.join(path, "partition")):
        return False
    try:
        disk_name = os.path.basename(os.path.dirname(path))
        with open_disk(os.path.join(root, "dev", disk_name), writable=False) as disk:
            table = read_table(disk)
    except (OSError, DiskError):
        return False
    return any(part.name == ESP_NAME for part in table.partitions.values())


def _fits(root: str, device: str, kind: str, wanted: str) -> bool:
    if device.startswith(("ram", "loop", "zram")):
        return False
    if kind == "PARTUUID":
        guid = partition_guid(device, root)
        return guid is not None and str(guid) == wanted.lower()
    try:
        with open(os.path.join(root, "dev", device), "rb") as stream:
            stream.seek(_SUPER_OFFSET)
            block = stream.read(_SUPER_BYTES)
    except OSError:
        return False  # no medium, or a disk that fails: not the one
    if block[_MAGIC_AT : _MAGIC_AT + 2] != _MAGIC:
        return False
    if kind == "LABEL":
        label = block[_LABEL_AT : _LABEL_AT + 16].partition(b"\0")[0]
        return label == wanted.encode()
    return str(uuid.UUID(bytes=block[_UUID_AT : _UUID_AT + 16])) == wanted.lower()


def partition_guid(device: str, root: str = "/") -> uuid.UUID | None:
    """The identifier of the partition of this name (vda4), as its disk's table says now.

    None for what is no partition, or has no table that can be read. The kernel does not say it.
    """
    try:
        with open(os.path.join(root, "sys/class/block", device, "partition")) as stream:
            number = int(stream.read())
        folder = os.path.realpath(os.path.join(root, "sys/class/block", device))
        disk_name = os.path.basename(os.path.dirname(folder))
        with open_disk(os.path.join(root, "dev", disk_name), writable=False) as disk:
            part = read_table(disk).partitions.get(number)
    except (OSError, ValueError, DiskError):
        return None
    return part.guid if part else None


def copies_of(device: str, root: str = "/") -> list[str]:
    """Other partitions with the identifier of this one (vda1): those of copies of its disk."""
    own = partition_guid(device, root)
    if own is None:
        return []
    return [
        f"/dev/{name}"
        for name in sorted(os.listdir(os.path.join(root, "sys/class/block")))
        if name != device and partition_guid(name, root) == own
    ]
