"""What an image is written to: a disk that nothing uses, or a file.

Linux says what uses a disk: its partitions' holders (LVM, RAID, encryption), mounts, swap. A disk
in use is never written to, whatever the user says.
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct
from pathlib import Path
from typing import NamedTuple

from product.image.errors import ImageError

# From linux/fs.h.
_BLKGETSIZE64, _BLKFLSBUF, _BLKZEROOUT = 0x80081272, 0x1261, 0x127F


class Device(NamedTuple):
    """A disk: its kernel ``name``, ``size`` in bytes, and what its maker calls it."""

    name: str
    size: int
    model: str


def inspect(
    path: Path,
    *,
    sys: Path = Path("/sys"),
    proc: Path = Path("/proc"),
    dev: Path = Path("/dev"),
) -> Device | None:
    """The disk at ``path``; None for what is, or may become, a file.

    Raises ImageError for what nobody may write an image to: a partition, a disk in use, a folder,
    a file among the disks, which a mistyped name would become.
    """
    # resolve() ends with a traceback where links go round in a circle.
    among_disks = dev in Path(os.path.realpath(path)).parents
    try:
        found = path.stat()
    except OSError as error:
        if not isinstance(error, FileNotFoundError):
            raise ImageError(f"{path} cannot be looked at: {error.strerror}") from None
        if among_disks:
            raise ImageError(f"there is no disk {path}", hint="lsblk lists them") from None
        return None
    if stat.S_ISREG(found.st_mode) and among_disks:
        raise ImageError(
            f"{path} is neither a disk nor a file that anybody keeps: it lies in memory",
            hint="lsblk lists the disks; remove the file if a mistyped name made it",
        )
    if stat.S_ISREG(found.st_mode):
        return None
    if not stat.S_ISBLK(found.st_mode):
        raise ImageError(f"{path} is neither a disk nor a file", hint="lsblk lists the disks")
    number = f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"
    folder = (sys / "dev/block" / number).resolve()
    if (folder / "partition").exists():
        raise ImageError(
            f"{path} is a partition of /dev/{folder.parent.name}, and an image fills a disk",
            hint=f"name the disk: /dev/{folder.parent.name}",
        )
    if users := in_use(folder, sys=sys, proc=proc):
        raise ImageError(
            f"{path} is in use: {'; '.join(users)}",
            hint="choose another disk, or unmount what is mounted from this one first",
        )
    if _line(folder / "ro") == "1":
        raise ImageError(f"{path} is read-only", hint="has the stick a switch?")
    model = " ".join(
        word for word in (_line(folder / "device/vendor"), _line(folder / "device/model")) if word
    )
    return Device(folder.name, int(_line(folder / "size") or "0") * 512, model)


def in_use(folder: Path, *, sys: Path, proc: Path) -> list[str]:
    """Sentences on what uses a disk or its partitions; ``folder`` is the disk's in sysfs."""
    children = (child for child in sorted(folder.iterdir()) if (child / "partition").exists())
    parts = [folder, *children]
    users = []
    numbers: dict[str, str] = {}
    for part in parts:
        if number := _line(part / "dev"):
            numbers[number] = part.name
        holders = part / "holders"
        for holder in sorted(holders.iterdir()) if holders.is_dir() else []:
            users.append(f"{part.name} is part of {_line(holder / 'dm/name') or holder.name}")
    names = {f"/dev/{name}": name for name in numbers.values()}
    for line in _lines(proc / "self/mountinfo"):
        before, _, after = line.partition(" - ")
        fields, source = before.split(), after.split()
        if len(fields) < 5 or len(source) < 2:
            continue
        # Btrfs has a number of its own, and says the device by name alone.
        name = numbers.get(fields[2]) or names.get(source[1])
        if name:
            users.append(f"{name} is mounted at {fields[4]}")
    for line in _lines(proc / "swaps")[1:]:
        device = line.split()[0] if line.split() else ""
        if name := names.get(device):
            users.append(f"{name} is swap space")
    return users


def require_room(path: Path, device: Device | None, size: int) -> None:
    """Raise ImageError where the image of ``size`` bytes is larger than the disk."""
    if device is not None and device.size < size:
        raise ImageError(
            f"{path} has {device.size} bytes, the image {size}", hint="take a larger disk"
        )


def require_meant(path: str, device: Device | None, meant: str | None) -> None:
    """Raise ImageError unless the disk's path was typed twice, letter for letter."""
    if device is not None and meant != path:
        said = f", and --yes-i-mean says {meant}" if meant else ""
        what = f"{device.size / 1e9:.1f} GB{f', {device.model}' if device.model else ''}"
        raise ImageError(
            f"everything on {path} ({what}) would be lost{said}",
            hint=f"if that is the disk: --yes-i-mean {path}",
        )


def open_for_writing(path: Path, device: Device | None, *, private: bool = False) -> int:
    """A descriptor. Of a disk it is the only one that may write: whatever uses it, is refused.

    A ``private`` file is its owner's alone.
    """
    flags = os.O_RDWR | os.O_CLOEXEC
    try:
        if device is not None:
            return os.open(path, flags | os.O_EXCL)
        descriptor = os.open(path, flags | os.O_CREAT | os.O_TRUNC, 0o600 if private else 0o644)
        if private:
            # An earlier run may have left the file.
            os.fchmod(descriptor, 0o600)
        return descriptor
    except PermissionError:
        raise ImageError(
            f"{path} cannot be opened for writing", hint="disks are root's: use sudo"
        ) from None
    except OSError as error:
        raise ImageError(
            f"{path} cannot be opened for writing: {error.strerror}",
            hint="is something on it mounted, or part of a RAID or LVM volume?",
        ) from None


def zero(descriptor: int, start: int, length: int, *, is_device: bool) -> None:
    """Make a range of a disk zeros, as fast as it can; a new file has them. Raises OSError."""
    if is_device and length:
        fcntl.ioctl(descriptor, _BLKZEROOUT, struct.pack("QQ", start, length))


def flush(descriptor: int, *, is_device: bool) -> None:
    """Bring everything to the disk, and forget what is cached of it. Raises OSError."""
    os.fsync(descriptor)
    if is_device:
        fcntl.ioctl(descriptor, _BLKFLSBUF, 0)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def _line(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []
