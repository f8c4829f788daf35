"""A release repository on a disk of the node: a stick, or the EFI partition of the boot disk.

``disk:LABEL/FOLDER`` names it: the file system (FAT or ISO 9660) with that label, in any case, and
a folder of it. It is mounted read-only for as long as a connection to a server would be open, and
answers as a server would. What lies there is trusted no more than what a server sends.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO

from product.agent.errors import AgentError
from product.agent.net.connections import Connections, Response, TransientError
from product.agent.system import mounts, program
from product.disk.labels import Volume, read_volume

if TYPE_CHECKING:
    from product.agent.net.sockets import Permit

PREFIX = "disk:"
# A folder for each connection, ``PROCESS.NUMBER``.
MOUNTS = "run/kubesolo/repository"
_NOT_DISKS = ("ram", "loop", "zram", "dm-")


class FileResponse(Response):
    """A file, or the part of it from ``start`` on, as a server would answer; None: 404."""

    def __init__(self, url: str, file: BinaryIO | None, start: int = 0) -> None:
        self._name = url
        self._file = file
        self._headers: dict[str, str] = {}
        self.status = 404
        if file is None:
            return
        size = file.seek(0, os.SEEK_END)
        self.status = 200
        if start:
            self.status = 206 if start < size else 416
            span = f"{start}-{size - 1}" if start < size else "*"
            self._headers["content-range"] = f"bytes {span}/{size}"
        file.seek(start)
        self._headers["content-length"] = str(max(size - start, 0))

    def header(self, name: str) -> str | None:
        """As of a server that says no more than sizes."""
        return self._headers.get(name.lower())

    def read1(self, limit: int) -> bytes:
        """At most ``limit`` bytes; empty at the end. Raises TransientError for a bad medium."""
        try:
            return self._file.read(limit) if self._file else b""
        except OSError as error:
            raise TransientError(f"{self._name} cannot be read: {error.strerror}") from None

    def allow(self, seconds: float) -> None:
        """A disk takes the time that it takes."""

    def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()


class VolumeConnections(Connections):
    """Connections to servers and to volumes; ``root`` moves /sys, /dev and /run, for tests."""

    def __init__(
        self,
        *,
        connect: float,
        silence: float,
        permit: Permit | None = None,
        interrupt: Callable[[], None] | None = None,
        root: str = "/",
    ) -> None:
        super().__init__(connect=connect, silence=silence, permit=permit, interrupt=interrupt)
        self._root = root
        self._mounted: dict[str, str] = {}

    def __exit__(self, *error: object) -> None:
        for folder in self._mounted.values():
            _detach(folder)
        self._mounted.clear()
        super().__exit__(None, None, None)

    def get(self, url: str, headers: dict[str, str], until: float | None = None) -> Response:
        """The same for files of a volume. Raises AgentError where there is no such volume."""
        if not url.startswith(PREFIX):
            return super().get(url, headers, until)
        label, _, path = url.removeprefix(PREFIX).partition("/")
        if label not in self._mounted:
            self._mounted[label] = self._mount(label)
        parts = [part for part in path.split("/") if part]
        start = headers.get("Range", "").removeprefix("bytes=").partition("-")[0]
        try:
            if ".." in parts:
                raise FileNotFoundError
            # Whoever gets the response closes it.
            file = open(os.path.join(self._mounted[label], *parts), "rb")  # noqa: SIM115
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return FileResponse(url, None)
        except OSError as error:
            raise TransientError(f"{url} cannot be read: {error.strerror}") from None
        return FileResponse(url, file, int(start) if start.isdigit() else 0)

    def _mount(self, label: str) -> str:
        device, volume = find_volume(self._root, label)
        folder = self._new_folder()
        try:
            mounts.attach(
                device, folder, kind=volume.kind, options="nosuid,nodev,noexec",
                mountinfo=os.path.join(self._root, "proc/self/mountinfo"),
            )  # fmt: skip
        except mounts.MountError as error:
            os.rmdir(folder)
            raise AgentError(
                f"cannot mount {device}: {error.message}", code="server-unreachable"
            ) from None
        return folder

    def _new_folder(self) -> str:
        """A mount point that is this connection's alone; those of processes that died are gone."""
        parent = os.path.join(self._root, MOUNTS)
        os.makedirs(parent, exist_ok=True)
        for name in os.listdir(parent):
            process = name.partition(".")[0]
            if process.isdecimal() and not _runs(int(process)):
                _detach(os.path.join(parent, name))
        number = 0
        while True:
            folder = os.path.join(parent, f"{os.getpid()}.{number}")
            try:
                os.mkdir(folder, 0o700)
                return folder
            except FileExistsError:
                number += 1


def _detach(folder: str) -> None:
    program.run(["umount", folder])
    with suppress(OSError):
        os.rmdir(folder)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def find_volume(root: str, label: str) -> tuple[str, Volume]:
    """The device with the file system of that label. Raises AgentError unless it is one."""
    block = os.path.join(root, "sys/class/block")
    found: dict[str, Volume] = {}
    names = sorted(os.listdir(block)) if os.path.isdir(block) else []
    for name in names:
        if name.startswith(_NOT_DISKS):
            continue
        volume = read_volume(os.path.join(root, "dev", name))
        if volume and any(own.lower() == label.lower() for own in volume.labels):
            found[name] = volume
    # An ISO image that boots shows its file system as the disk and as a partition of it.
    for name in list(found):
        parent = os.path.basename(os.path.dirname(os.path.realpath(os.path.join(block, name))))
        if os.path.exists(os.path.join(block, name, "partition")):
            found.pop(parent, None)
    if not found:
        raise AgentError(
            f"no disk has a file system labelled {label}",
            code="server-unreachable",
            hint="is the stick in? It needs FAT or ISO 9660, and that label",
        )
    if len(found) > 1:
        listed = " and ".join(f"/dev/{name}" for name in found)
        raise AgentError(
            f"{listed} are both labelled {label}",
            code="server-unreachable",
            hint="unplug one of them",
        )
    [(name, volume)] = found.items()
    return os.path.join(root, "dev", name), volume
