"""One installation, from the medium to a disk."""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from product.agent.node import Node
from product.agent.system import program
from product.cloudinit import sources
from product.cloudinit.sources import FILES, Seed, Where
from product.disk.errors import DiskError
from product.disk.find import ESP_NAME
from product.disk.gpt import Partition, read_table
from product.disk.pieces import DOCUMENT_NAME, MAX_DOCUMENT, Document, parse
from product.disk.prepare import open_disk
from product.errors import KubesoloError
from product.installer.configure import put_files, read_files, shown
from product.installer.disks import Disk, list_disks
from product.installer.errors import HalfWrittenError, InstalledError, InstallError
from product.installer.write import BlockDevice, Progress, install

_MOUNT, _LOCK = "/run/kubesolo/medium", "/run/kubesolo/installer.lock"
_FOLDER = "kubesolo"
# Of the image: where its EFI partition lies, in sectors, as product.image.disk has it.
_ESP_FIRST, _ESP_SECTORS = 2048, 256 * 2048


class Job:
    """What the medium holds, and writing it."""

    def __init__(self, node: Node, folder: str, medium: str) -> None:
        """``folder`` shows the medium's files, ``medium`` is its device."""
        self._folder = folder
        self.medium = medium
        path = os.path.join(folder, DOCUMENT_NAME)
        try:
            with open(path, "rb") as stream:
                self.document: Document = parse(stream.read(MAX_DOCUMENT), path)
        except OSError as error:
            raise InstallError(f"cannot read {path}: {error.strerror}") from None
        self.version = node.release.version

    def disks(self) -> list[Disk]:
        """Those that there are to choose from."""
        return list_disks(self.medium)

    def run(self, disk: Disk, files: Mapping[str, bytes], progress: Progress) -> None:
        """Write the system and the seed's ``files`` to ``disk``.

        Raises InstallError, HalfWrittenError where writing had begun.
        """
        with _alone():
            self._write(disk, files, progress)

    def _write(self, disk: Disk, files: Mapping[str, bytes], progress: Progress) -> None:
        try:
            target = BlockDevice(disk.path)
        except OSError as error:
            raise InstallError(
                f"{disk.path} cannot be written: {error.strerror}",
                hint="is something on it mounted, as data of this live system?",
            ) from None

        def configure() -> None:
            if files:
                with shown(disk.path, self._esp()) as device:
                    put_files(device, files)

        try:
            install(self.document, self._open, target, configure, progress)
        except (KubesoloError, OSError) as error:
            reason = error.message if isinstance(error, KubesoloError) else str(error)
            with suppress(OSError):
                target.zero(0, 1 << 20)
                target.flush()
            raise HalfWrittenError(
                f"{disk.path} was not written to its end: {reason}. It has no partition table, and "
                "starts nothing",
                hint="install again, or to another disk",
            ) from None
        finally:
            target.close()

    def require_new(self, disk: Disk, files: Mapping[str, bytes]) -> None:
        """Raise InstalledError where the disk was installed with these very files."""
        if files and self._configuration_of(disk) == dict(files):
            raise InstalledError(
                f"{disk.path} has been installed with this seed already; nothing was written",
                hint="remove the medium, and the disk starts; to install again, change the seed",
            )

    def _configuration_of(self, disk: Disk) -> dict[str, bytes]:
        """The seed's files on a disk that was installed; none where it was not."""
        number = "p1" if disk.path[-1].isdigit() else "1"
        with suppress(DiskError, OSError, InstallError, KeyError):
            with open_disk(disk.path, writable=False) as opened:
                if read_table(opened).partitions[1].name != ESP_NAME:
                    return {}
            found = read_files(f"{disk.path}{number}")
            return {name: data for name, data in found.items() if name in FILES}
        return {}

    def _esp(self) -> Partition:
        last = _ESP_FIRST + _ESP_SECTORS - 1
        return Partition(uuid.UUID(int=0), uuid.UUID(int=0), _ESP_FIRST, last, 0, ESP_NAME)

    def _open(self, name: str) -> int:
        return os.open(os.path.join(self._folder, name), os.O_RDONLY | os.O_CLOEXEC)


@contextmanager
def _alone() -> Iterator[None]:
    """While no other installer writes. Raises InstallError."""
    with open(_LOCK, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InstallError(
                "another installer is at work", hint="look at the other screen"
            ) from None
        yield


@contextmanager
def job() -> Iterator[Job]:
    """The medium that this system runs from, mounted.

    Raises InstallError on a system that runs from a disk.
    """
    node = Node()
    if not node.boot.live:
        raise InstallError(
            "this system runs from its own disk", hint="boot the ISO image to install"
        )
    program.run(["modprobe", "-q", "-a", "-b", "isofs", "sr_mod", "vfat", "nls_cp437", "nls_ascii"])
    # Of this process alone: a menu may be open on each screen.
    folder = f"{_MOUNT}-{os.getpid()}"
    os.makedirs(folder, exist_ok=True)
    medium = node.boot.disk
    program.require(["mount", "-t", "iso9660", "-o", "ro,nojoliet", medium, folder])
    try:
        yield Job(node, os.path.join(folder, _FOLDER), medium)
    finally:
        program.run(["umount", folder])
        os.rmdir(folder)


def find_seed(medium: str) -> Seed | None:
    """The first source that there is. Raises CloudInitError."""
    where = Where()
    sources.settle(where)
    found, _ = sources.find_seeds(where, medium, "")
    return found[0] if found else None


def restart(then: str) -> None:
    """Reboot or power off."""
    program.require([f"/sbin/{then}"])
