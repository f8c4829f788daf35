"""What an image is written to: a disk that nothing uses, or a file.

A disk in use is never written to, whatever the user says (product.disk.uses).
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import NamedTuple

from product.disk import block
from product.disk.uses import in_use, read_line
from product.image.errors import ImageError


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
    if read_line(folder / "ro") == "1":
        raise ImageError(f"{path} is read-only", hint="has the stick a switch?")
    named = (read_line(folder / "device" / name) for name in ("vendor", "model"))
    model = " ".join(word for word in named if word)
    return Device(folder.name, int(read_line(folder / "size") or "0") * 512, model)


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
    if is_device:
        block.zero(descriptor, start, length)
