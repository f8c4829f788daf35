"""What the installer does with the machine: its disks, its medium, its seed, its power."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from product.agent.node import Node
from product.agent.system import program
from product.agent.system.files import read_bounded
from product.cloudinit import sources
from product.cloudinit.sources import Seed, Where, disk_of
from product.disk.errors import DiskError
from product.disk.find import ESP_NAME
from product.disk.gpt import Partition, read_table
from product.disk.pieces import DOCUMENT_NAME
from product.disk.prepare import open_disk
from product.installer.configure import put_files, read_files, shown
from product.installer.disks import Disk, list_disks
from product.installer.errors import InstallError
from product.installer.write import BlockDevice, Target

MEDIUM = "/run/kubesolo/medium"
# Of an ISO image.
_FOLDER = "kubesolo"
# The seed disk is what is handed over for one machine; other sources a node finds by itself.
_SEED_DISK = 0
_DRIVERS = ("isofs", "sr_mod", "sd_mod", "vfat", "nls_cp437", "nls_ascii")


class Machine:
    """The one that this runs on."""

    def __init__(self) -> None:
        self.node = Node()
        # Disks that hold the medium or the seed, name to reason.
        self._others: dict[str, str] = {}

    @contextmanager
    def medium(self) -> Iterator[str]:
        """The folder that shows the medium's files. Raises InstallError, ProgramError."""
        program.run(["modprobe", "-q", "-a", "-b", *_DRIVERS])
        if os.path.exists(os.path.join(MEDIUM, DOCUMENT_NAME)):
            if self.node.boot.live:
                self._others[os.path.basename(self.node.boot.disk)] = "it holds the medium"
            yield MEDIUM
            return
        if not self.node.boot.live:
            raise InstallError(
                f"this system runs from its own disk, and {MEDIUM} shows no medium",
                hint="boot the ISO image to install",
            )
        device = self.node.boot.disk
        self._others[os.path.basename(device)] = "it holds the medium"
        # Of this process alone: a menu may be open on each screen.
        folder = f"{MEDIUM}-{os.getpid()}"
        os.makedirs(folder, exist_ok=True)
        program.require(["mount", "-t", "iso9660", "-o", "ro,nojoliet", device, folder])
        try:
            yield os.path.join(folder, _FOLDER)
        finally:
            program.run(["umount", folder])
            os.rmdir(folder)

    def seed(self) -> Seed | None:
        """The seed disk. Raises CloudInitError where there are two, or it cannot be read."""
        where = Where()
        sources.settle(where)
        found, _ = sources.find_seeds(where, self.node.boot.disk, "")
        for seed in found:
            if seed.rank == _SEED_DISK and seed.device:
                name = disk_of(where.under("sys/class/block"), os.path.basename(seed.device))
                self._others[name] = "it holds the seed"
                with where.mounted(seed.device, seed.kind) as folder:
                    return seed._replace(files={**seed.files, **_encryption(folder)})
        return None

    def disks(self) -> list[Disk]:
        """All of them."""
        return list_disks(self._others)

    def open(self, path: str) -> Target:
        """The disk for writing. Raises OSError, also where something uses it."""
        return BlockDevice(path)

    def put(self, path: str, esp: Partition, files: Mapping[str, bytes]) -> None:
        """Write ``files`` to the folder of configuration. Raises InstallError, OSError."""
        with shown(path, esp) as device:
            put_files(device, files)

    def configuration_of(self, path: str) -> dict[str, bytes]:
        """The files of configuration on an installed system's disk; none of another one."""
        number = "p1" if path[-1].isdigit() else "1"
        with suppress(DiskError, OSError, InstallError, KeyError):
            with open_disk(path, writable=False) as opened:
                if read_table(opened).partitions[1].name != ESP_NAME:
                    return {}
            return read_files(f"{path}{number}")
        return {}

    def restart(self, then: str) -> None:
        """Reboot or power off. Raises ProgramError."""
        program.require([f"/sbin/{then}"])


def _encryption(folder: str) -> dict[str, bytes]:
    """Whether the disk's first boot shall encrypt its data (product.encryption.wish), if said."""
    with suppress(FileNotFoundError):
        path = os.path.join(folder, sources.ENCRYPTION_NAME)
        return {sources.ENCRYPTION_NAME: read_bounded(path, sources.MAX_BYTES)}
    return {}
