"""The disks of a machine, what lies on them, and the choice of one by a rule."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from product.disk.errors import DiskError
from product.disk.foreign import read_foreign
from product.disk.gpt import read_table
from product.disk.labels import read_volume
from product.disk.prepare import open_disk
from product.installer.errors import NoDiskError, NotEmptyError

# What is no disk to install to: memory, other devices' layers, CD drives, boot areas of cards.
_NO_DISKS = ("ram", "loop", "zram", "dm-", "md", "sr", "fd", "nbd")
_EDGE = 1 << 20
_SERIALS = ("serial", "device/serial")


class Disk(NamedTuple):
    """A whole disk: ``size`` in bytes; ``holds`` says what lies on it, "" where nothing does."""

    path: str
    size: int
    model: str
    serial: str
    holds: str

    def describe(self) -> str:
        """For a list: what a person tells disks apart by."""
        named = self.model or "no model"
        serial = f", serial {self.serial}" if self.serial else ""
        return f"{self.path}  {self.size / 1e9:.1f} GB  {named}{serial}  [{self.holds or 'empty'}]"


class Rule(NamedTuple):
    """Which disk: each that is given must fit; models may have ``*``. ``pick`` is among those that
    fit smallest or largest; "" wants exactly one."""

    serial: str = ""
    model: str = ""
    path: str = ""
    pick: str = ""

    def fits(self, disk: Disk) -> bool:
        """Whether the disk has what is asked for."""
        model = not self.model or fnmatch.fnmatchcase(disk.model.lower(), self.model.lower())
        serial = not self.serial or disk.serial == self.serial
        return model and serial and self.path in ("", disk.path)

    def describe(self) -> str:
        """The rule in words."""
        said = [f"{key} {value}" for key, value in self._asdict().items() if value]
        return ", ".join(said) or "the only disk"


def list_disks(medium: str, root: str = "/") -> list[Disk]:
    """All but the one with the medium, a path such as /dev/sr0, and those that take no writes."""
    folder = os.path.join(root, "sys/class/block")
    found = []
    for name in sorted(os.listdir(folder)):
        here = os.path.join(folder, name)
        if name.startswith(_NO_DISKS) or os.path.exists(os.path.join(here, "partition")):
            continue
        if "boot" in name or "rpmb" in name or f"/dev/{name}" == medium:
            continue
        size = int(_text(here, "size") or "0") * 512
        if not size or _text(here, "ro") == "1":
            continue
        vendor, model = _text(here, "device/vendor"), _text(here, "device/model")
        # Virtio has a number for a vendor.
        words = [word for word in (vendor, model) if word and not word.startswith("0x")]
        serial = next((text for one in _SERIALS if (text := _text(here, one))), "")
        found.append(
            Disk(
                f"/dev/{name}", size, " ".join(words), serial or _page_80(here),
                what_holds(os.path.join(root, "dev", name)),
            )
        )  # fmt: skip
    return found


def choose(disks: Sequence[Disk], rule: Rule, least: int) -> Disk:
    """The disk that the rule means, of ``least`` bytes or more. Raises NoDiskError."""
    there = "; ".join(disk.describe() for disk in disks) or "none"
    fitting = [disk for disk in disks if rule.fits(disk)]
    if not fitting:
        raise NoDiskError(
            f"no disk fits {rule.describe()}; there is: {there}", hint="correct install.disk"
        )
    large = [disk for disk in fitting if disk.size >= least]
    if not large:
        raise NoDiskError(
            f"{', '.join(disk.describe() for disk in fitting)}: smaller than the "
            f"{least / 1e9:.1f} GB that the system takes",
            hint="take a larger disk",
        )
    if len(large) > 1 and not rule.pick:
        raise NoDiskError(
            f"{len(large)} disks fit {rule.describe()}, and none is taken: {there}",
            hint="name one by its serial or path, or say which: smallest or largest",
        )
    ordered = sorted(large, key=lambda disk: (disk.size, disk.path))
    return ordered[-1] if rule.pick == "largest" else ordered[0]


def require_empty(disk: Disk, *, wipe: bool) -> None:
    """Raise NotEmptyError where the disk holds something, unless ``wipe`` says that it may go."""
    if disk.holds and not wipe:
        raise NotEmptyError(
            f"{disk.path} is not empty: {disk.holds}; nothing was written",
            hint="if all of it may be lost, say so: wipe: yes under install, or --wipe",
        )


def what_holds(path: str) -> str:
    """Partitions or a file system in words; "" where both ends of the disk are zeros."""
    with suppress(DiskError, OSError), open_disk(path, writable=False) as disk:
        names = [part.name or "unnamed" for part in read_table(disk).partitions.values()]
        return f"partitions {', '.join(names)}" if names else "an empty partition table"
    if volume := read_volume(path) or read_foreign(path):
        return f"{volume.kind} {', '.join(volume.labels)}".rstrip()
    try:
        with open(path, "rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            for start in (0, max(0, size - _EDGE)):
                stream.seek(start)
                if stream.read(_EDGE).strip(b"\0"):
                    return "something unknown"
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    return ""


def _text(folder: str, name: str) -> str:
    try:
        with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as stream:
            return stream.read(256).strip()
    except OSError:
        return ""


def _page_80(folder: str) -> str:
    """SCSI's unit serial number, behind the page's four bytes."""
    try:
        with open(os.path.join(folder, "device/vpd_pg80"), "rb") as stream:
            return stream.read(256)[4:].decode("ascii", "replace").strip(" \0")
    except OSError:
        return ""
