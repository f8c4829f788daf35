"""Where a node's configuration may lie, and what is found there: the first source found counts.

A seed disk is a file system labelled ``cidata`` or ``CIDATA``, on a disk or on a partition of one.
The folder ``kubesolo/`` of KSOLOEFI is what a flashing tool writes. The machine's SMBIOS serial
number may carry a name and an instance-id, in the manner of cloud-init's NoCloud. An image may
bring its own.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from product.agent.system import program
from product.agent.system.files import read_bounded
from product.agent.system.mounts import MountError, attach
from product.cloudinit.errors import CloudInitError
from product.disk.labels import Volume, read_volume

USER_DATA, META_DATA, NETWORK = FILES = ("user-data", "meta-data", "network-config")
LABEL = "cidata"
FOLDER = "kubesolo"
# What was fetched from a server, and from which URL.
FETCHED, URL_NAME = "var/lib/kubesolo/config/fetched", "url"
# What a node itself writes to a seed.
RESULT_NAME, KUBECONFIG_NAME = "kubesolo-result.txt", "kubeconfig"
# What early boot reads of that folder, and what is no configuration (product.encryption.wish).
ENCRYPTION_NAME = "encryption"
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
        # Of this process alone: two services may look at seeds at once.
        self._mount = self.under(f"run/kubesolo/seed-{os.getpid()}")

    def under(self, path: str) -> str:
        """The path below ``root``, absolute or not."""
        return os.path.join(self.root, path.lstrip("/"))

    @contextmanager
    def mounted(self, device: str, kind: str, *, writable: bool = False) -> Iterator[str]:
        """The folder that shows a device's file system, whoever else has mounted it.

        Raises CloudInitError.
        """
        os.makedirs(self._mount, exist_ok=True)
        try:
            attach(
                device,
                self._mount,
                kind=kind,
                options="nosuid,nodev,noexec",
                mountinfo=self.under("proc/self/mountinfo"),
                writable=writable,
            )
        except MountError as error:
            raise CloudInitError(f"cannot mount {device}: {error.message}") from None
        try:
            yield self._mount
        finally:
            program.run(["umount", self._mount])
            with suppress(OSError):
                os.rmdir(self._mount)


def find_seeds(where: Where, boot_disk: str, esp: str) -> tuple[list[Seed], list[CloudInitError]]:
    """What there is, in the order in which it counts; ``boot_disk`` and ``esp`` are devices.

    Raises CloudInitError where two seed disks are there, or where a source cannot be read that no
    better one goes before; what is wrong with a source behind a good one is in the second list.
    """
    found: list[Seed] = []
    looks: tuple[Callable[[], Seed | None], ...] = (
        lambda: _seed_disk(where, os.path.basename(boot_disk)),
        lambda: _esp(where, esp),
        lambda: _serial(where),
        lambda: _default(where),
    )
    errors: list[CloudInitError] = []
    for look in looks:
        try:
            seed = look()
        except (CloudInitError, OSError) as error:
            known = error if isinstance(error, CloudInitError) else _unreadable(error)
            if not found:
                raise known from None
            errors.append(known)
            continue
        if seed:
            found.append(seed)
    return found, errors


def _unreadable(error: OSError) -> CloudInitError:
    return CloudInitError(
        f"cannot read {error.filename or 'a seed'}: {error.strerror}",
        hint="the medium may be failing: try another one",
    )


def _default(where: Where) -> Seed | None:
    files = _read(where.under("usr/lib/kubesolo/config"))
    return Seed(3, "the image's default", files) if files else None


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
        _require_files(place, folder, files)
    return Seed(0, place, files, f"/dev/{name}", volume.kind)


def _esp(where: Where, esp: str) -> Seed | None:
    if not esp:
        return None  # A system that runs from a medium has none.
    place = f"the folder {FOLDER} of KSOLOEFI"
    with where.mounted(esp, "vfat") as mounted:
        folder = os.path.join(mounted, FOLDER)
        if not set(_names(folder)) - {RESULT_NAME, KUBECONFIG_NAME, ENCRYPTION_NAME}:
            return None
        files = _read(folder)
        _require_files(place, folder, files)
    return Seed(1, place, files, esp, "vfat", FOLDER)


def _require_files(place: str, folder: str, files: dict[str, bytes]) -> None:
    """Raise CloudInitError where nothing there is a configuration: a name with an ending, say."""
    if not {USER_DATA, NETWORK} & files.keys():
        there = ", ".join(sorted(_names(folder))[:5]) or "nothing"
        raise CloudInitError(
            f"{place} holds neither {USER_DATA} nor {NETWORK}: there is {there}",
            hint="the names have no ending such as .txt or .yaml",
        )


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
        _require_url(place, url)
        return Seed(2, f"the seed {url}", _fetched(where, url), url=url)
    lines = [f"instance-id: {values['i']}"] if values.get("i") else []
    files = {META_DATA: "".join(f"{line}\n" for line in lines).encode()}
    if name := values.get("h"):
        files[USER_DATA] = f"#cloud-config\nhostname: {name}\n".encode()
    return Seed(2, place, files)


def _require_url(place: str, url: str) -> None:
    """Raises CloudInitError, which does not repeat a login."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable, parts = False, urlsplit("")
    if "@" in url:
        raise CloudInitError(
            f"{place} names a seed with a login, which is never sent: everybody could read it",
            hint="give a URL without one, that only this site reaches",
        )
    if not usable or parts.query or parts.fragment:
        raise CloudInitError(
            f"{place} names the seed {url}, and a node fetches over http and https alone",
            hint="give s=https://HOST/FOLDER/, or a seed disk labelled cidata",
        )


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
    letters. Raises CloudInitError for one that cannot be read, or is none.
    """
    names = _names(folder)
    found = {}
    for wanted in FILES:
        if wanted in names:
            found[wanted] = _file(folder, wanted, wanted)
        elif iso and (name := _iso_name(names, wanted)):
            found[wanted] = _file(folder, name, wanted)
    return found


def _iso_name(names: list[str], wanted: str) -> str | None:
    """What an ISO image without Rock Ridge calls a file: the whole name first, then a cut one."""
    plain = {name.lower().rstrip(".").replace("_", "-"): name for name in sorted(names)}
    return plain.get(wanted) or plain.get(wanted[:8])


def _file(folder: str, name: str, wanted: str) -> bytes:
    """A medium may hold anything under that name: only a plain file is opened and read."""
    path = os.path.join(folder, name)
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path, flags)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise CloudInitError(f"{wanted} is no plain file", hint="put the file itself there")
            return file.read(MAX_BYTES)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise CloudInitError(f"{wanted} is a link", hint="put the file itself there") from None
        raise CloudInitError(f"cannot read {wanted}: {error.strerror}") from None


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _text(path: str) -> str:
    return read_bounded(path, 4096).decode(errors="replace").strip()
