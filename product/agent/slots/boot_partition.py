"""The passive slot's boot partition, for firmware that reads FAT only.

It follows the slot before that is armed: emptied, written, brought to the disk and read back, and
the record of its files last. A power cut leaves it complete, or known to be incomplete, and then
neither armed nor returned to.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from contextlib import AbstractContextManager

from product.agent.bootloader.boot import ESP_LABEL, BootInfo
from product.agent.errors import AgentError
from product.agent.slots.content import SlotError, inspect_directory
from product.agent.slots.volumes import Volumes
from product.agent.system.direct_io import from_disk
from product.agent.system.files import read_bounded, sync_directory, write_all
from product.agent.system.paths import Paths
from product.disk.autoboot import LABELS
from product.disk.boot_files import MAX_RECORD, RECORD, Record, Source, parse_record, sources
from product.disk.errors import DiskError
from product.disk.find import partition_guid

_PIECE = 1 << 20


class BootPartitionError(AgentError):
    """A slot's boot partition is not what its slot needs."""

    code = "boot-partition"


class BootPartition:
    """The boot partitions of the disk that was booted."""

    def __init__(self, paths: Paths, volumes: Volumes, boot: BootInfo) -> None:
        self._paths = paths
        self._volumes = volumes
        self._boot = boot

    def follow(self, slot: str) -> bool:
        """Let the boot partition of ``slot`` hold what the slot's release brings; whether it did
        not. Raises SlotError for the slot that runs, BootPartitionError, VolumeError, OSError.
        """
        if slot == self._boot.slot:
            raise SlotError(f"slot {slot} is the one that runs; its boot partition is not written")
        with self._slot(slot) as directory, self._mounted(slot, writable=True) as target:
            release = _release(directory, slot)
            if _fault(target, release) is None:
                return False
            guid = partition_guid(os.path.basename(self._boot.device(ESP_LABEL)), self._paths.root)
            try:
                _write(target, directory, slot, release, str(guid) if guid else None)
            except DiskError as error:
                raise BootPartitionError(error.message) from None
        return True

    def require(self, slot: str) -> None:
        """Raise BootPartitionError unless the boot partition is whole, and its slot's."""
        with self._slot(slot) as directory, self._mounted(slot, writable=False) as target:
            fault = _fault(target, _release(directory, slot))
        if fault is not None:
            raise BootPartitionError(
                f"the boot partition of slot {slot} cannot be started: {fault}",
                hint="kubesolo-update activate writes it anew for the slot that it arms",
            )

    def _slot(self, slot: str) -> AbstractContextManager[str]:
        device = self._boot.slot_device(slot)
        return self._volumes.mounted(device, self._paths.slot_mount, kind="ext4")

    def _mounted(self, slot: str, *, writable: bool) -> AbstractContextManager[str]:
        device = self._boot.device(LABELS[slot])
        at = self._paths.boot_mount
        return self._volumes.mounted(device, at, kind="vfat", writable=writable)


def _release(directory: str, slot: str) -> str:
    content = inspect_directory(directory)
    if content.digest is None or content.problem:
        raise BootPartitionError(f"slot {slot} holds no release: {content.problem}")
    return content.digest


def _fault(target: str, release: str) -> str | None:
    """What is wrong with the mounted boot partition, for the slot that holds ``release``."""
    try:
        record = parse_record(read_bounded(f"{target}/{RECORD}", MAX_RECORD), RECORD)
    except FileNotFoundError:
        return f"it has no {RECORD}: it was not written to the end"
    except (OSError, ValueError) as error:
        return f"{RECORD} cannot be read: {error}"
    except DiskError as error:
        return error.message
    if record.release != release:
        return "it is another release's"
    for name, digest in record.files.items():
        try:
            found = _digest(f"{target}/{name}")
        except OSError as error:
            return f"{name} cannot be read: {error.strerror}"
        if found != digest:
            return f"{name} has another content than its record says"
    return None


def _write(target: str, directory: str, slot: str, release: str, guid: str | None) -> None:
    record_path = f"{target}/{RECORD}"
    if os.path.exists(record_path):
        # Gone from the disk before any file that it names changes.
        os.unlink(record_path)
        sync_directory(target)
    for name in os.listdir(target):
        path = f"{target}/{name}"
        if os.path.isdir(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
    files = {}
    for source in sources(directory, slot, guid):
        files[source.name] = _copy(source, f"{target}/{source.name}")
    for folder, _, _ in os.walk(target, topdown=False):
        sync_directory(folder)
    for name, digest in files.items():
        if (found := _digest(f"{target}/{name}")) != digest:
            raise BootPartitionError(
                f"{name} of slot {slot}'s boot partition reads back as {found[:12]}, not "
                f"{digest[:12]}; the slot is not armed",
                hint="the disk may be failing",
                code="boot-partition-integrity",
            )
    _put(record_path, Record(release, files).to_bytes())
    sync_directory(target)


def _copy(source: Source, path: str) -> str:
    """Write the file to the disk; its SHA-256."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    digest = hashlib.sha256()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        with source.open() as stream:
            while piece := stream.read(_PIECE):
                digest.update(piece)
                write_all(descriptor, piece)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return digest.hexdigest()


def _put(path: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        write_all(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest(path: str) -> str:
    digest = hashlib.sha256()
    for piece in from_disk(path):
        digest.update(piece)
    return digest.hexdigest()
