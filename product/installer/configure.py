"""The seed's files on the EFI partition of a disk that has no partition table yet.

The kernel is told of the partition (BLKPG), mounts it, and forgets it again.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
from array import array
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from product.agent.system import program
from product.cloudinit.sources import FOLDER, MAX_BYTES
from product.disk.gpt import Partition
from product.installer.errors import InstallError

# From linux/blkpg.h.
_BLKPG, _ADD, _REMOVE = 0x1269, 1, 2
_NUMBER = 1
_MOUNT = "/run/kubesolo/installing"
_WAIT_SECONDS = 5.0


@contextmanager
def shown(disk: str, part: Partition) -> Iterator[str]:
    """The device of a partition that the kernel learns of for as long. Raises OSError."""
    begin, length = part.first * 512, (part.last - part.first + 1) * 512
    for number in range(1, 129):
        with suppress(OSError):
            _tell(disk, _REMOVE, number, 0, 0)
    _tell(disk, _ADD, _NUMBER, begin, length)
    device = f"{disk}p{_NUMBER}" if disk[-1].isdigit() else f"{disk}{_NUMBER}"
    try:
        end = time.monotonic() + _WAIT_SECONDS
        while not os.path.exists(device):
            if time.monotonic() > end:
                raise OSError(errno.ENOENT, "the kernel makes no device of the partition", device)
            time.sleep(0.05)
        yield device
    finally:
        _tell(disk, _REMOVE, _NUMBER, 0, 0)


def _tell(disk: str, what: int, number: int, begin: int, length: int) -> None:
    held = array("B", struct.pack("qqi64s64s", begin, length, number, b"", b""))
    request = struct.pack("iiiP", what, 0, len(held), held.buffer_info()[0])
    descriptor = os.open(disk, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(descriptor, _BLKPG, request)
    finally:
        os.close(descriptor)


def put_files(device: str, files: Mapping[str, bytes]) -> None:
    """Write the seed's files, and read them back from the disk. Raises InstallError, OSError."""
    with _mounted(device, "rw") as folder:
        place = os.path.join(folder, FOLDER)
        os.makedirs(place, exist_ok=True)
        for name, data in files.items():
            if len(data) > MAX_BYTES:
                raise InstallError(f"{name} has {len(data)} bytes, more than {MAX_BYTES}")
            with open(os.path.join(place, name), "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
    found = read_files(device)
    if found != dict(files):
        raise InstallError(f"the configuration on {device} does not read back as it was written")


def read_files(device: str) -> dict[str, bytes]:
    """The files of the configuration that lie on an EFI partition. Raises InstallError, OSError."""
    found = {}
    with _mounted(device, "ro") as folder:
        place = os.path.join(folder, FOLDER)
        for name in os.listdir(place) if os.path.isdir(place) else ():
            path = os.path.join(place, name)
            with open(path, "rb") as stream:
                found[name] = stream.read(MAX_BYTES)
    return found


@contextmanager
def _mounted(device: str, how: str) -> Iterator[str]:
    os.makedirs(_MOUNT, exist_ok=True)
    command = ["mount", "-t", "vfat", "-o", f"{how},nosuid,nodev,noexec", device, _MOUNT]
    try:
        program.require(command)
    except program.ProgramError as error:
        raise InstallError(f"cannot mount {device}: {error.message}") from None
    try:
        yield _MOUNT
    finally:
        program.require(["umount", _MOUNT])
