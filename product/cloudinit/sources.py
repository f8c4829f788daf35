"""Where a node's configuration may lie, and what is found there: the first source found counts.

A seed disk is a file system labelled ``cidata`` or ``CIDATA``, on a disk or on a partition of one.
The folder ``kubesolo/`` of KSOLOEFI is what a flashing tool writes. The machine's SMBIOS serial
number may carry a name and an instance-id, in the manner of cloud-init's NoCloud. An image may
bring its own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from product.agent.system import program
from product.agent.system.files import read_bounded
from product.cloudinit.errors import CloudInitError
from product.disk.labels import Volume, read_volume

USER_DATA, META_DATA, NETWORK = FILES = ("user-data", "meta-data", "network-config")
LABEL = "cidata"
FOLDER = "kubesolo"
# What was fetched from a server, and from which URL.
FETCHED, URL_NAME = "var/lib/kubesolo/config/fetched", "url"
# More than any file may have: the loaders say so with the file's name.
MAX_BYTES = 1 << 20
SERIAL_PREFIX = "ds=nocloud"
# How long USB storage that the kernel has seen may take to become a disk: its driver waits for 1 s.
SETTLE_SECONDS = 6.0
_POLL_SECONDS = 0.1
_USB_STORAGE = "08"


class Seed(NamedTuple):
    """A source that has something: ``rank`` 0 goes first, ``place`` is for people.

    ``files`` are by their proper names. ``device`` and ``kind`` are those of the file system that
    it lies on, ``folder`` is the place in it; without a device nothing can be written back to it.
    With a ``url`` and no files they have yet to be fetched (product.cloudinit.fetch).
    """

    rank: int
    place: str
    files: dict[str, bytes]
    device: str | None = None
    kind: str = "vfat"
    folder: str = ""
    url: str | None = None


class Where:
    """Places of the node; ``root`` moves /sys, /dev, /etc and so on, for tests."""

    def __init__(self, root: str = "/") -> None:
        self.root = root
        self._mount = self.under("run/kubesolo/seed")

    def under(self, path: str) -> str:
        """The path below ``root``, absolute or not."""
        return os.path.join(self.root, path.lstrip("/"))

    @contextmanager
    def mounted(self, device: str, kind: str, *, writable: bool = False) -> Iterator[str]:
        """The folder that shows a device's file system. Raises CloudInitError."""
        os.makedirs(self._mount, exist_ok=True)
        options = f"{'rw' if writable else 'ro'},nosuid,nodev,noexec"
        try:
            program.require(["mount", "-t", kind, "-o", options, device, self._mount])
        except program.ProgramError as error:
            raise CloudInitError(f"cannot mount {device}: {error.message}") from None
        try:
            yield self._mount
        finally:
            program.run(["umount", self._mount])


def find_seeds(where: Where, boot_disk: str, esp: str) -> list[Seed]:
    """What there is, in the order in which it counts; ``boot_disk`` and ``esp`` are devices.

    Raises CloudInitError where two seed disks are there, or where a source cannot be read.
    """
    found: list[Seed] = []
    if seed := _seed_disk(where, os.path.basename(boot_disk)):
        found.append(seed)
    if seed := _esp(where, esp):
        found.append(seed)
    if seed := _serial(where):
        found.append(seed)
    if files := _read(where.under("usr/lib/kubesolo/config")):
        found.append(Seed(3, "the image's default", files))
    return found


def settle(where: Where, seconds: float = SETTLE_SECONDS) -> None:
    """Let USB storage that the kernel has seen become disks; most machines wait for nothing."""
    end = time.monotonic() + seconds
    while _unready(where) and time.monotonic() < end:
        # What has turned up since the boot asked for drivers; there is no udev.
        if aliases := [*_aliases(where, "usb"), *_aliases(where, "scsi")]:
            program.run(["modprobe", "-q", "-a", "-b", *aliases])
        time.sleep(_POLL_SECONDS)


def _aliases(where: Where, bus: str) -> list[str]:
    folder = where.under(f"sys/bus/{bus}/devices")
    paths = (os.path.join(folder, name, "modalias") for name in _names(folder))
    return [_text(path) for path in paths if os.path.exists(path)]


def _unready(where: Where) -> list[str]:
    """USB storage without a disk."""
    devices = where.under("sys/bus/usb/devices")
    found = []
    for name in _names(devices):
        with suppress(OSError):
            folder = os.path.join(devices, name)
            if _text(os.path.join(folder, "bInterfaceClass")) != _USB_STORAGE:
                continue
            real = os.path.realpath(folder)
            disks = where.under("sys/class/block")
            if not any(
                os.path.realpath(os.path.join(disks, disk)).startswith(real + "/")
                for disk in _names(disks)
            ):
                found.append(name)
    return found


def seed_volumes(where: Where, boot_disk: str) -> list[tuple[str, Volume]]:
    """Devices labelled as a seed, those of the boot disk left out.

    A disk and a partition of it count as one, and the partition is taken: an ISO image that boots
    shows its file system in both.
    """
    folder = where.under("sys/class/block")
    found: dict[str, Volume] = {}
    for name in sorted(_names(folder)):
        if name.startswith(("ram", "loop", "zram", "dm-")) or disk_of(folder, name) == boot_disk:
            continue
        volume = read_volume(where.under(f"dev/{name}"))
        if volume and any(label.lower() == LABEL for label in volume.labels):
            found[name] = volume
    parents = {disk_of(folder, name) for name in found if disk_of(folder, name) != name}
    return [(name, volume) for name, volume in found.items() if name not in parents]


def disk_of(folder: str, name: str) -> str:
    """The disk that a block device is or lies on; ``folder`` is /sys/class/block."""
    if not os.path.exists(os.path.join(folder, name, "partition")):
        return name
    return os.path.basename(os.path.dirname(os.path.realpath(os.path.join(folder, name))))


def _seed_disk(where: Where, boot_disk: str) -> Seed | None:
    volumes = seed_volumes(where, boot_disk)
    if len(volumes) > 1:
        names = " and ".join(f"/dev/{name} ({volume.kind})" for name, volume in volumes)
        raise CloudInitError(
            f"two seed disks are there, {names}: nothing of either is applied",
            hint="unplug all but one",
        )
    if not volumes:
        return None
    name, volume = volumes[0]
    place = f"the seed disk /dev/{name}"
    with where.mounted(f"/dev/{name}", volume.kind) as folder:
        files = _read(folder, iso=volume.kind == "iso9660")
        there = ", ".join(sorted(os.listdir(folder))[:5]) or "nothing"
    if not {USER_DATA, NETWORK} & files.keys():
        raise CloudInitError(
            f"{place} holds neither {USER_DATA} nor {NETWORK}: there is {there}",
            hint="the names have no ending such as .txt or .yaml",
        )
    return Seed(0, place, files, f"/dev/{name}", volume.kind)


def _esp(where: Where, esp: str) -> Seed | None:
    with where.mounted(esp, "vfat") as folder:
        files = _read(os.path.join(folder, FOLDER))
    if not {USER_DATA, NETWORK} & files.keys():
        return None
    return Seed(1, f"the folder {FOLDER} of KSOLOEFI", files, esp, "vfat", FOLDER)


def _serial(where: Where) -> Seed | None:
    """``ds=nocloud`` with ``i=`` (instance-id) and ``h=`` (hostname), parted by semicolons."""
    try:
        serial = _text(where.under("sys/class/dmi/id/product_serial"))
    except OSError:
        return None
    kind, *words = serial.split(";")
    if kind not in (SERIAL_PREFIX, f"{SERIAL_PREFIX}-net"):
        return None
    values = dict(word.partition("=")[::2] for word in words)
    place = "the SMBIOS serial number"
    if url := values.get("s", values.get("seedfrom")):
        if not url.startswith(("http://", "https://")):
            raise CloudInitError(
                f"{place} names the seed {url}, and a node fetches over http and https alone",
                hint="give s=https://HOST/FOLDER/, or a seed disk labelled cidata",
            )
        return Seed(2, f"the seed {url}", _fetched(where, url), url=url)
    lines = [f"instance-id: {values['i']}"] if values.get("i") else []
    files = {META_DATA: "".join(f"{line}\n" for line in lines).encode()}
    if name := values.get("h"):
        files[USER_DATA] = f"#cloud-config\nhostname: {name}\n".encode()
    return Seed(2, place, files)


def _fetched(where: Where, url: str) -> dict[str, bytes]:
    """The files that were fetched from there, none before that."""
    folder = where.under(FETCHED)
    try:
        known = _text(os.path.join(folder, URL_NAME)) == url
    except (OSError, ValueError):
        return {}
    return _read(folder) if known else {}


def _read(folder: str, *, iso: bool = False) -> dict[str, bytes]:
    """The files of a seed by their proper names.

    Without Rock Ridge an ISO image knows them in capitals, with an underline, perhaps cut to eight
    letters. Raises CloudInitError for one that cannot be read.
    """
    found = {}
    for name in _names(folder):
        plain = name.lower().rstrip(".").replace("_", "-") if iso else name
        for wanted in FILES:
            if plain != wanted and not (iso and plain.rstrip("-") == wanted[:8].rstrip("-")):
                continue
            path = os.path.join(folder, name)
            try:
                with open(path, "rb") as file:
                    found[wanted] = file.read(MAX_BYTES)
            except OSError as error:
                raise CloudInitError(f"cannot read {wanted}: {error.strerror}") from None
    return found


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _text(path: str) -> str:
    return read_bounded(path, 4096).decode(errors="replace").strip()
