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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from product.agent.boot import SLOT_LABELS, BootInfo
from product.agent.diskio import Writeback, from_disk
from product.agent.durable import read_bounded, sync_directory, write_all, write_atomic
from product.agent.errors import AgentError
from product.agent.paths import Paths
from product.agent.volumes import VolumeBusyError, VolumeError, Volumes
from product.manifest import MANIFEST_NAME, MAX_BYTES, Artifact, Manifest, ManifestError

# ext4's own tables and journal, as a share of a slot whose file system cannot be asked.
ASSUMED_OVERHEAD = 0.1

# Brings an artifact to a path, checks its SHA-256 and returns the CRC-32 of what it wrote.
Fetch = Callable[[Artifact, str], int]


class SlotError(AgentError):
    """A slot may not be written, or what it holds is not what it should be."""

    code = "slot-unusable"


class SlotContent(NamedTuple):
    """A slot's manifest and the SHA-256 of its bytes, or the ``problem`` that hides them."""

    manifest: Manifest | None = None
    digest: str | None = None
    problem: str | None = None


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
                return _inspect(directory)
        except VolumeBusyError:
            return SlotContent(problem="it is in use by another process")
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
            content = _inspect(directory)
            if content.manifest is None or content.problem:
                raise SlotError(f"slot {slot} is damaged: {content.problem}")
            for artifact in content.manifest.artifacts:
                _verify_file(f"{directory}/{artifact.name}", artifact)

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
            manifest = _inspect(directory).manifest
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


class SlotWriter:
    """Writes one release into a mounted passive slot; the order of calls is that of methods."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        # CRC-32 of each file whose SHA-256 is known to be right.
        self._checksums: dict[str, int] = {}

    def invalidate(self, manifest: Manifest) -> None:
        """Make the slot unbootable, then remove what ``manifest`` has no use for."""
        # The name must be gone from the disk before any artifact changes.
        self._remove(MANIFEST_NAME)
        sync_directory(self._directory)
        wanted = {_partial(artifact) for artifact in manifest.artifacts}
        wanted.update(artifact.name for artifact in manifest.artifacts)
        for entry in os.scandir(self._directory):
            if entry.name not in wanted and entry.is_file(follow_symlinks=False):
                self._remove(entry.name)

    def place(self, artifact: Artifact, fetch: Fetch) -> bool:
        """Bring ``artifact`` into the slot by ``fetch(artifact, path)``, which may find the
        beginning of it at ``path``. False where an earlier attempt had already finished it."""
        path = f"{self._directory}/{artifact.name}"
        try:
            self._checksums[artifact.name] = _verify_file(path, artifact)
            return False
        except SlotError:
            self._remove(artifact.name)
        partial = f"{self._directory}/{_partial(artifact)}"
        self._checksums[artifact.name] = fetch(artifact, partial)
        os.replace(partial, path)
        return True

    def verify(self, manifest: Manifest) -> None:
        """Bring everything to the disk, then compare what the disk has. Raises SlotError."""
        self._sync(manifest)
        for artifact in manifest.artifacts:
            path = f"{self._directory}/{artifact.name}"
            _verify_file(path, artifact, self._checksums.get(artifact.name))

    def seal(self, manifest_bytes: bytes) -> None:
        """Make the slot bootable."""
        write_atomic(f"{self._directory}/{MANIFEST_NAME}", manifest_bytes, mode=0o644)

    def _sync(self, manifest: Manifest) -> None:
        for artifact in manifest.artifacts:
            descriptor = os.open(f"{self._directory}/{artifact.name}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_directory(self._directory)

    def _remove(self, name: str) -> None:
        try:
            os.unlink(f"{self._directory}/{name}")
        except FileNotFoundError:
            return


def _partial(artifact: Artifact) -> str:
    """The name carries the digest, so that one release's beginning never gets another's end."""
    return f"{artifact.name}.{artifact.sha256[:16]}.part"


def _inspect(directory: str) -> SlotContent:
    path = f"{directory}/{MANIFEST_NAME}"
    try:
        data = read_bounded(path, MAX_BYTES)
        manifest = Manifest.parse(data)
    except FileNotFoundError:
        return SlotContent(problem="it has no manifest: nothing was written, or not to the end")
    except (OSError, ValueError) as error:
        return SlotContent(problem=f"its manifest cannot be read: {error}")
    except ManifestError as error:
        return SlotContent(problem=error.message)
    problem = None
    for artifact in manifest.artifacts:
        try:
            size = os.stat(f"{directory}/{artifact.name}").st_size
        except OSError as error:
            problem = f"{artifact.name} cannot be found: {error.strerror}"
            break
        if size != artifact.size:
            problem = f"{artifact.name} is {size} bytes, its manifest says {artifact.size}"
            break
    return SlotContent(manifest, hashlib.sha256(data).hexdigest(), problem)


def _verify_file(path: str, artifact: Artifact, checksum: int | None = None) -> int:
    """The CRC-32 of what the disk has at ``path``. Raises SlotError where that is not ``artifact``.

    That is judged by ``checksum``, the CRC-32 of bytes that had the artifact's SHA-256, or by the
    SHA-256 itself.
    """
    name = artifact.name
    digest = hashlib.sha256()
    found = 0
    try:
        size = os.stat(path).st_size
        if size != artifact.size:
            message = f"{name} is {size} bytes, not {artifact.size}"
            raise SlotError(message, code="size-mismatch")
        for piece in from_disk(path):
            found = zlib.crc32(piece, found)
            if checksum is None:
                digest.update(piece)
    except OSError as error:
        message = f"{name} cannot be read back: {error.strerror}"
        raise SlotError(message, code="read-back-failed") from None
    if checksum is None:
        wrong, what = digest.hexdigest() != artifact.sha256, f"sha256 {digest.hexdigest()}"
        expected = artifact.sha256
    else:
        wrong, what, expected = found != checksum, f"crc32 {found:08x}", f"{checksum:08x}"
    if wrong:
        raise SlotError(
            f"{name} reads back as {what}, not {expected}",
            hint="the disk does not keep what is written to it",
            code="digest-mismatch",
        )
    return found
