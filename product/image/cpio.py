"""Write ``newc`` cpio archives, the format of an initramfs, from a list of entries.

The kernel's Documentation/driver-api/early-userspace/buffer-format.rst is the source. No existing
writer is used because every one takes owners, times and inode numbers from the file system, which
an unprivileged and reproducible build has to set itself; the format is one header per file.
"""

from __future__ import annotations

import stat
from typing import NamedTuple

_TRAILER = "TRAILER!!!"


class Entry(NamedTuple):
    """One file: ``mode`` with its type bits; ``device`` as (major, minor) for a device node."""

    name: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def directory(name: str) -> Entry:
    """A directory that anybody may read."""
    return Entry(name, stat.S_IFDIR | 0o755)


def file(name: str, data: bytes, *, executable: bool = False) -> Entry:
    """A regular file."""
    return Entry(name, stat.S_IFREG | (0o755 if executable else 0o644), data)


def symlink(name: str, target: str) -> Entry:
    """A symbolic link."""
    return Entry(name, stat.S_IFLNK | 0o777, target.encode())


def character_device(name: str, major: int, minor: int) -> Entry:
    """A character device, such as the console that the kernel opens for init."""
    return Entry(name, stat.S_IFCHR | 0o600, device=(major, minor))


def archive(entries: list[Entry], mtime: int) -> bytes:
    """The archive's bytes; parents must come before what they hold."""
    output = bytearray()
    for number, entry in enumerate([*entries, Entry(_TRAILER, 0)], start=1):
        name = entry.name.encode() + b"\0"
        trailer = entry.name == _TRAILER
        fields = (
            0 if trailer else number,
            entry.mode,
            0,
            0,
            2 if stat.S_ISDIR(entry.mode) else 1,
            0 if trailer else mtime,
            len(entry.data),
            0,
            0,
            *entry.device,
            len(name),
            0,
        )
        output += b"070701" + b"".join(b"%08x" % field for field in fields) + name
        output += b"\0" * (-len(output) % 4)
        output += entry.data
        output += b"\0" * (-len(output) % 4)
    return bytes(output + b"\0" * (-len(output) % 512))
