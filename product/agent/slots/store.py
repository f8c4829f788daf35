"""The two system slots: what they hold, and writing the passive one.

A slot without a readable ``manifest.json`` is not bootable for the agent. Writing removes it first
and brings it back last, after every artifact was read back from the disk; so an interruption
leaves a slot that nobody arms, with the finished files in place for the next attempt.

Each byte is hashed once: on its way in, where its SHA-256 says whether the release's publisher
meant it. Whether the disk has kept it, CRC-32 tells as well, at a tenth of the cost; a disk may
forget, but does not forge.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from product.agent.bootloader.boot import SLOT_LABELS, BootInfo
from product.agent.slots.content import BUSY, SlotContent, SlotError, inspect_directory, verify_file
from product.agent.slots.volumes import VolumeBusyError, VolumeError, Volumes
from product.agent.slots.writer import SlotWriter
from product.agent.system.direct_io import Writeback, from_disk
from product.agent.system.files import write_all
from product.agent.system.paths import Paths
from product.manifest import Artifact, Manifest

# ext4's own tables and journal, as a share of a slot whose file system cannot be asked.
ASSUMED_OVERHEAD = 0.1


class SlotStore:
    """The slots of the disk that was booted."""

    def __init__(self, paths: Paths, volumes: Volumes, boot: BootInfo) -> None:
        self._paths = paths
        self._volumes = volumes
        self._boot = boot

    def inspect(self, slot: str, *, wait: bool = True) -> SlotContent:
        """Read the manifest of ``slot`` and compare the artifacts' sizes with it.

        With ``wait`` false, a slot that is being written is a problem at once.
        """
        try:
            with self._reading(slot, self._paths.view_mounts[slot], wait=wait) as directory:
                return inspect_directory(directory)
        except VolumeBusyError:
            return SlotContent(problem=BUSY)
        except VolumeError as error:
            return SlotContent(problem=error.message)

    def require_valid(self, slot: str) -> tuple[Manifest, str]:
        """The manifest of ``slot`` and its digest. Raises SlotError where it is not bootable."""
        content = self.inspect(slot)
        if content.manifest is None or content.digest is None or content.problem:
            raise SlotError(
                f"slot {slot} holds no release that could be booted: {content.problem}",
                hint="kubesolo-update apply writes a release into the passive slot",
            )
        return content.manifest, content.digest

    def verify(self, slot: str) -> None:
        """Hash every artifact of ``slot`` against its manifest. Raises SlotError, VolumeError."""
        with self._reading(slot, self._paths.booted_mount) as directory:
            content = inspect_directory(directory)
            if content.manifest is None or content.problem:
                raise SlotError(f"slot {slot} is damaged: {content.problem}")
            for artifact in content.manifest.artifacts:
                verify_file(f"{directory}/{artifact.name}", artifact)

    def capacity(self, slot: str) -> int:
        """Bytes that ``slot`` has for files once it was emptied."""
        device = self._boot.slot_device(slot)
        try:
            with self._reading(slot, self._paths.slot_mount) as directory:
                figures = os.statvfs(directory)
                used = sum(e.stat(follow_symlinks=False).st_size for e in os.scandir(directory))
                return figures.f_bavail * figures.f_frsize + used
        except (VolumeError, OSError):
            # Writing will make a new file system there.
            return int(self._volumes.size(device) * (1 - ASSUMED_OVERHEAD))

    @contextmanager
    def running(self) -> Iterator[RunningSlot]:
        """The slot that runs, to copy from while the context lasts. Raises VolumeError."""
        with self._reading(self._boot.slot, self._paths.booted_mount) as directory:
            manifest = inspect_directory(directory).manifest
            yield RunningSlot(directory, manifest.artifacts if manifest else ())

    @contextmanager
    def writing(self, slot: str, active_slot: str | None) -> Iterator[SlotWriter]:
        """A writer for ``slot``; a damaged file system there is repaired or made anew.

        Raises SlotError for the slot that runs, the active one, and a mounted one.
        """
        device = self._boot.slot_device(slot)
        if slot == self._boot.slot:
            raise SlotError(f"slot {slot} is the one that runs; it is never written")
        if slot == active_slot:
            raise SlotError(
                f"slot {slot} is the one that boots next; it is never written",
                hint="reboot into it, or kubesolo-update rollback to leave it",
            )
        if point := self._volumes.mounted_elsewhere(device, self._paths.slot_mount):
            raise SlotError(f"slot {slot} ({device}) is mounted at {point}", hint="unmount it")
        with self._healed(slot, device) as directory:
            yield SlotWriter(directory)

    @contextmanager
    def _healed(self, slot: str, device: str) -> Iterator[str]:
        at = self._paths.slot_mount
        if not self._volumes.check(device):
            self._volumes.make(device, SLOT_LABELS[slot])
        try:
            mount = self._volumes.mounted(device, at, kind="ext4", writable=True)
            directory = mount.__enter__()
        except VolumeError:
            self._volumes.make(device, SLOT_LABELS[slot])
            mount = self._volumes.mounted(device, at, kind="ext4", writable=True)
            directory = mount.__enter__()
        try:
            yield directory
        finally:
            mount.__exit__(None, None, None)

    @contextmanager
    def _reading(self, slot: str, at: str, *, wait: bool = True) -> Iterator[str]:
        device = self._boot.slot_device(slot)
        with self._volumes.mounted(device, at, kind="ext4", wait=wait) as directory:
            yield directory


class RunningSlot:
    """The mounted slot that runs, which may hold some of a release already."""

    def __init__(self, directory: str, artifacts: Sequence[Artifact]) -> None:
        self._directory = directory
        self._artifacts = artifacts

    def holds(self, artifact: Artifact) -> bool:
        """Whether its manifest lists the same bytes under the same name."""
        return artifact in self._artifacts

    def path(self, name: str) -> str:
        """The file of an artifact, while the slot is mounted."""
        return f"{self._directory}/{name}"

    def copy(self, artifact: Artifact, destination: str) -> int:
        """Copy the file of ``artifact``; the CRC-32 of what was written.

        Raises SlotError where the file is not what ``artifact`` says, or OSError.
        """
        digest = hashlib.sha256()
        checksum = done = 0
        target = os.open(destination, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            writeback = Writeback(target)
            for piece in from_disk(f"{self._directory}/{artifact.name}"):
                digest.update(piece)
                checksum = zlib.crc32(piece, checksum)
                write_all(target, piece)
                done += len(piece)
                writeback.written(done)
        finally:
            os.close(target)
        if digest.hexdigest() != artifact.sha256:
            os.unlink(destination)
            raise SlotError(f"{artifact.name} in the running slot is not what its manifest says")
        return checksum
