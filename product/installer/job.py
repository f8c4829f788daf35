"""One installation, from the medium to a disk."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from product.cloudinit.sources import ENCRYPTION_NAME, FILES
from product.disk.gpt import Partition
from product.disk.pieces import DOCUMENT_NAME, MAX_DOCUMENT, Document, parse
from product.errors import KubesoloError
from product.installer.disks import Disk
from product.installer.errors import HalfWrittenError, InstalledError, InstallError
from product.installer.machine import Machine
from product.installer.write import HEAD, Progress, Target, install
from product.manifest import MANIFEST_NAME, MAX_BYTES, Manifest

# Beside the seed's files: what was installed with them, so that a medium that was left in does not
# install again and again.
RECORD_NAME = "installed.txt"
_LOCK = "/run/kubesolo/installer.lock"


class Job:
    """What the medium holds, and writing it."""

    def __init__(self, machine: Machine, folder: str) -> None:
        """``folder`` shows the medium's files. Raises InstallError, DiskError."""
        self._machine = machine
        self._folder = folder
        self.document: Document = parse(
            self._read(DOCUMENT_NAME, MAX_DOCUMENT), os.path.join(folder, DOCUMENT_NAME)
        )
        self.version = Manifest.parse(self._read(MANIFEST_NAME, MAX_BYTES)).version

    def run(self, disk: Disk, files: Mapping[str, bytes], progress: Progress) -> None:
        """Write the system and the seed's ``files`` to ``disk``.

        Raises InstallError, HalfWrittenError where writing had begun.
        """
        with self._alone():
            try:
                target = self._machine.open(disk.path)
            except OSError as error:
                raise InstallError(
                    f"{disk.path} cannot be written: {error.strerror}",
                    hint="is something on it mounted, as data of this live system?",
                ) from None
            try:
                self._write(disk, target, files, progress)
            finally:
                target.close()

    def _write(
        self, disk: Disk, target: Target, files: Mapping[str, bytes], progress: Progress
    ) -> None:
        def configure(esp: Partition) -> None:
            if files:
                self._machine.put(disk.path, esp, {**files, RECORD_NAME: self._record})

        try:
            install(self.document, self._open, target, configure, progress)
        except BaseException as error:
            with suppress(OSError):
                target.zero(0, HEAD)
                target.flush()
            if isinstance(error, KubesoloError):
                reason = error.message
            elif isinstance(error, OSError):
                reason = str(error)
            elif isinstance(error, KeyboardInterrupt):
                reason = "it was interrupted"
            else:
                raise
            raise HalfWrittenError(
                f"{disk.path} was not written to its end: {reason}. It has no partition table, and "
                "starts nothing",
                hint="install again, or to another disk",
            ) from None

    def require_new(self, disk: Disk, files: Mapping[str, bytes]) -> None:
        """Raise InstalledError where this medium has installed the disk with these files."""
        there = self._machine.configuration_of(disk.path) if files else {}
        seed = {name: data for name, data in there.items() if name in (*FILES, ENCRYPTION_NAME)}
        if there.get(RECORD_NAME) == self._record and seed == dict(files):
            raise InstalledError(
                f"{disk.path} has been installed by this medium with this seed already; nothing "
                "was written",
                hint="remove the medium, and the disk starts; to install again, change the seed",
            )

    @property
    def _record(self) -> bytes:
        return f"{self.version} {self.document.sha256}\n".encode()

    def _read(self, name: str, most: int) -> bytes:
        path = os.path.join(self._folder, name)
        try:
            with open(path, "rb") as stream:
                return stream.read(most)
        except OSError as error:
            raise InstallError(
                f"cannot read {path}: {error.strerror}", hint="the medium is damaged"
            ) from None

    def _open(self, name: str) -> int:
        return os.open(os.path.join(self._folder, name), os.O_RDONLY | os.O_CLOEXEC)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """While no other installer writes. Raises InstallError."""
        with open(_LOCK, "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InstallError(
                    "another installer is at work", hint="look at the other screen"
                ) from None
            yield
