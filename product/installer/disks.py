"""The disks of a machine as Linux knows them, and the choice of one by a rule."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from product.disk.uses import in_use, read_line
from product.installer.contents import what_holds
from product.installer.errors import NoDiskError, NotEmptyError

# What is no disk to install to: memory, other devices' layers, CD drives, floppies.
_NO_DISKS = ("ram", "loop", "zram", "dm-", "md", "sr", "fd", "nbd")
_SERIALS, _MODELS = ("serial", "device/serial"), ("device/model", "device/name")
_WWNS = ("wwid", "device/wwid")
_WWN_FORMS = ("naa.", "eui.", "uuid.", "0x")
# Of a path in sysfs, the first that fits.
_BUSES = ("usb", "nvme", "mmc", "virtio", "ata")
_SECTOR = 512


class Disk(NamedTuple):
    """A whole disk: ``size`` in bytes; ``holds`` says what lies on it, "" where nothing does.

    ``reason`` is why nothing can be installed to it, "" where something can.
    """

    path: str
    size: int
    model: str = ""
    serial: str = ""
    wwn: str = ""
    bus: str = ""
    holds: str = ""
    reason: str = ""

    def describe(self) -> str:
        """For a list: what a person tells disks apart by."""
        words = [self.path, "", f"{self.size / 1e9:.1f} GB", "", self.model or "no model"]
        text = " ".join(words) + (f", serial {self.serial}" if self.serial else "")
        text += f", {self.bus}" if self.bus else ""
        return f"{text}  [{self.holds or 'empty'}]"

    def refusal(self, least: int) -> str:
        """Why the system, of ``least`` bytes, cannot be installed to it; "" where it can."""
        if self.reason or self.size >= least:
            return self.reason
        return f"it is smaller than the {least / 1e9:.1f} GB that the system takes"


class Rule(NamedTuple):
    """Which disk: each that is given must fit; models may have ``*``; ``min_size`` is in bytes.

    ``pick`` is among those that fit smallest or largest; "" wants exactly one.
    """

    serial: str = ""
    model: str = ""
    path: str = ""
    wwn: str = ""
    min_size: int = 0
    pick: str = ""

    def fits(self, disk: Disk) -> bool:
        """Whether the disk has what is asked for."""
        model = not self.model or fnmatch.fnmatchcase(disk.model.lower(), self.model.lower())
        serial = not self.serial or disk.serial == self.serial
        wwn = not self.wwn or plain_wwn(disk.wwn) == plain_wwn(self.wwn)
        return (
            model and serial and wwn and disk.size >= self.min_size
            and self.path in ("", disk.path)
        )  # fmt: skip

    def describe(self) -> str:
        """The rule in words."""
        said = [f"{key} {value}" for key, value in self._asdict().items() if value]
        return ", ".join(said) or "no condition: the only disk"


def plain_wwn(text: str) -> str:
    """Without the form's name, which some tools show and others do not; "" of none."""
    folded = text.strip().lower()
    for form in _WWN_FORMS:
        folded = folded.removeprefix(form)
    return folded


def list_disks(others: Mapping[str, str], root: str = "/") -> list[Disk]:
    """All disks of the machine. ``others``, name to reason, are not to be taken: the medium, say.

    ``root`` moves /sys, /proc and /dev, for tests.
    """
    folder = os.path.join(root, "sys/class/block")
    found = []
    for name in sorted(os.listdir(folder)):
        here = Path(os.path.realpath(os.path.join(folder, name)))
        if name.startswith(_NO_DISKS) or (here / "partition").exists():
            continue
        # Areas of a card that it keeps for itself.
        if name.startswith("mmcblk") and ("boot" in name or "rpmb" in name):
            continue
        size = int(read_line(here / "size") or "0") * _SECTOR
        if size:
            found.append(_disk(name, here, size, others.get(name, ""), root))
    return found


def _disk(name: str, here: Path, size: int, reason: str, root: str) -> Disk:
    model = _first(here, _MODELS)
    vendor = read_line(here / "device/vendor")
    # Virtio and NVMe have a number for a vendor.
    words = [word for word in (vendor, model) if word and not word.startswith("0x")]
    return Disk(
        f"/dev/{name}", size, " ".join(words), _first(here, _SERIALS) or _page_80(here),
        _first(here, _WWNS), next((bus for bus in _BUSES if f"/{bus}" in str(here)), ""),
        what_holds(os.path.join(root, "dev", name)), reason or _reason(here, root),
    )  # fmt: skip


def _reason(here: Path, root: str) -> str:
    if users := in_use(here, sys=Path(root, "sys"), proc=Path(root, "proc")):
        return f"it is in use: {'; '.join(users)}"
    if read_line(here / "ro") == "1":
        return "it is read-only"
    sector = read_line(here / "queue/logical_block_size") or str(_SECTOR)
    if sector != str(_SECTOR):
        return f"its sectors have {sector} bytes, the system's image needs {_SECTOR}"
    return ""


def choose(disks: Sequence[Disk], rule: Rule, least: int) -> Disk:
    """The disk that the rule means, of ``least`` bytes or more. Raises NoDiskError."""
    there = "; ".join(disk.describe() for disk in disks) or "none"
    fitting = [disk for disk in disks if rule.fits(disk)]
    if not fitting:
        raise NoDiskError(
            f"no disk fits the rule ({rule.describe()}); there is: {there}",
            hint="correct install.disk, or connect the disk",
        )
    usable = [disk for disk in fitting if not disk.refusal(least)]
    if not usable:
        reasons = "; ".join(f"{disk.path}: {disk.refusal(least)}" for disk in fitting)
        raise NoDiskError(
            f"no disk that fits the rule ({rule.describe()}) can be taken: {reasons}",
            hint="name another disk, or connect a larger one",
        )
    if len(usable) > 1 and not rule.pick:
        several = "; ".join(disk.describe() for disk in usable)
        raise NoDiskError(
            f"{len(usable)} disks fit the rule ({rule.describe()}), and none is taken: {several}",
            hint="name one by its serial, wwn or path, or say pick: smallest, or largest",
        )
    sizes = [disk.size for disk in usable]
    wanted = max(sizes) if rule.pick == "largest" else min(sizes)
    picked = [disk for disk in usable if disk.size == wanted]
    if len(picked) > 1:
        several = "; ".join(disk.describe() for disk in picked)
        raise NoDiskError(
            f"{len(picked)} disks are the {rule.pick}, and none is taken: {several}",
            hint="name one by its serial, wwn or path",
        )
    return picked[0]


def require_empty(disk: Disk, *, wipe: bool) -> None:
    """Raise NotEmptyError where the disk holds something, unless ``wipe`` says that it may go."""
    if disk.holds and not wipe:
        raise NotEmptyError(
            f"{disk.path} is not empty: {disk.holds}; nothing was written",
            hint="if all of it may be lost, say so: wipe: yes under install, or --wipe",
        )


def _first(here: Path, names: Sequence[str]) -> str:
    return next((text for name in names if (text := read_line(here / name))), "")


def _page_80(here: Path) -> str:
    """SCSI's unit serial number, behind the page's four bytes."""
    try:
        with open(here / "device/vpd_pg80", "rb") as stream:
            return stream.read(256)[4:].decode("ascii", "replace").strip(" \0")
    except OSError:
        return ""
