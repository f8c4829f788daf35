"""Partitions as directories, and the repair of those that cannot be one.

A partition is mounted only as long as it is used. A lock per partition makes users take turns, and
lets whoever comes after a killed agent clear away the mount that it left. What others have mounted
of a partition, such as a repository on KSOLOEFI, stays theirs.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from product.agent.errors import AgentError
from product.agent.system import mounts, program
from product.agent.system.paths import Paths

# What GRUB's ext4 driver does not read.
UNREADABLE_BY_GRUB = "^metadata_csum_seed,^orphan_file"


class VolumeError(AgentError):
    """A partition cannot be mounted, checked or made anew."""

    code = "partition-unusable"


class VolumeBusyError(VolumeError):
    """Another process uses the partition."""

    code = "partition-busy"


class Volumes(Protocol):
    """What the agent does with partitions. All methods raise VolumeError."""

    def mounted(
        self, device: str, at: str, *, kind: str, writable: bool = False, wait: bool = True
    ) -> AbstractContextManager[str]:
        """The directory that shows ``device`` while the context lasts.

        ``kind`` is ext4 or vfat. With ``wait`` false, VolumeBusyError instead of a turn.
        """
        ...

    def mounted_elsewhere(self, device: str, at: str) -> str | None:
        """A mount point of ``device`` other than ``at``."""
        ...

    def check(self, device: str) -> bool:
        """Repair what can be repaired without a question; whether the file system is whole."""
        ...

    def make(self, device: str, label: str) -> None:
        """Make an empty ext4 that GRUB can read. Everything in ``device`` is lost."""
        ...

    def size(self, device: str) -> int:
        """Bytes of the partition."""
        ...


class SystemVolumes:
    """The machine's partitions, through mount(8) and e2fsprogs."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths

    @contextmanager
    def mounted(
        self, device: str, at: str, *, kind: str, writable: bool = False, wait: bool = True
    ) -> Iterator[str]:
        """See Volumes."""
        with self._turn(device, wait):
            os.makedirs(at, exist_ok=True)
            self._clear(device)
            options = "noatime,nosuid,nodev,noexec" if writable else "nosuid,nodev,noexec"
            if kind == "ext4" and not writable and not wait:
                # A mere look must not replay a journal that a writer may need.
                options += ",noload"
            try:
                table = self._paths.mountinfo
                mounts.attach(
                    device, at, kind=kind, options=options, mountinfo=table, writable=writable
                )
            except mounts.MountError as error:
                raise VolumeError(error.message) from None
            try:
                yield at
            finally:
                self._unmount(at)

    def mounted_elsewhere(self, device: str, at: str) -> str | None:
        """See Volumes; devices are told apart by number, since they have several names."""
        wanted = _number(device)
        for mount in mounts.read_mounts(self._paths.mountinfo):
            if mount.number == wanted and mount.point != at:
                return mount.point
        return None

    def check(self, device: str) -> bool:
        """See Volumes."""
        with self._turn(device, wait=True):
            self._clear(device)
            # 1 says that errors were corrected.
            return program.run(["e2fsck", "-p", device])[0] in (0, 1)

    def make(self, device: str, label: str) -> None:
        """See Volumes."""
        command = ["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0"]
        program.require([*command, "-L", label, "-O", UNREADABLE_BY_GRUB, device])

    def size(self, device: str) -> int:
        """See Volumes."""
        try:
            descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise VolumeError(f"cannot open {device}: {error.strerror}") from None
        try:
            return os.lseek(descriptor, 0, os.SEEK_END)
        finally:
            os.close(descriptor)

    @contextmanager
    def _turn(self, device: str, wait: bool) -> Iterator[None]:
        os.makedirs(self._paths.run, exist_ok=True)
        path = f"{self._paths.run}/{os.path.basename(device)}.lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                raise VolumeBusyError(f"{device} is in use by another process") from None
            yield
        finally:
            os.close(descriptor)

    def _clear(self, device: str) -> None:
        """Unmount what a killed agent left behind; the turn says that nobody uses it."""
        for mount in mounts.read_mounts(self._paths.mountinfo):
            if mount.point in self._paths.own_mounts and mount.number == _number(device):
                self._unmount(mount.point)

    def _unmount(self, at: str) -> None:
        status, output = program.run(["umount", at])
        if status != 0:
            raise VolumeError(f"cannot unmount {at}: {output}")


def _number(device: str) -> str:
    """``major:minor`` as the kernel writes it."""
    try:
        return mounts.device_number(device)
    except OSError as error:
        raise VolumeError(f"cannot find {device}: {error.strerror}") from None
