"""A release repository on a disk of the node: a stick, or the EFI partition of the boot disk.

``disk:LABEL/FOLDER`` names it: the file system (FAT or ISO 9660) with that label, in any case, and
a folder of it. It is mounted read-only for as long as the source is open. What lies there is
trusted no more than what a server sends.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

from product.agent.errors import AgentError
from product.agent.net.connections import pause
from product.agent.sources.answer import FileAnswer, unreadable
from product.agent.system import mounts, program
from product.disk.labels import Volume, read_volume

PREFIX = "disk:"
# A folder for each source, ``PROCESS.NUMBER``.
MOUNTS = "run/kubesolo/repository"
NOT_DISKS = ("ram", "loop", "zram", "dm-")


class VolumeSource:
    """The repository ``disk:LABEL/FOLDER``; ``root`` moves /sys, /dev and /run, for tests."""

    setting = "server"

    def __init__(
        self, server: str, *, interrupt: Callable[[], None] | None = None, root: str = "/"
    ) -> None:
        self.address = server.rstrip("/")
        self._label, _, folder = self.address.removeprefix(PREFIX).partition("/")
        self._folder = [part for part in folder.split("/") if part]
        self._interrupt = interrupt
        self._root = root
        self._mounted: str | None = None

    def __enter__(self) -> VolumeSource:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._mounted is not None:
            _detach(self._mounted)
            self._mounted = None

    def pause(self, seconds: float) -> None:
        """Wait; raises what interrupts."""
        pause(seconds, self._interrupt)

    def open(
        self,
        path: str,
        *,
        start: int = 0,
        end: int | None = None,
        fresh: bool = False,
        until: float | None = None,
    ) -> FileAnswer:
        """A file of the volume, which is mounted first. Raises AgentError where there is none."""
        if self._mounted is None:
            self._mounted = self._mount(self._label)
        parts = [*self._folder, *(part for part in path.split("/") if part)]
        where = f"{self.address}/{path}"
        try:
            if ".." in parts:
                raise FileNotFoundError
            # Whoever gets the answer closes it.
            file = open(os.path.join(self._mounted, *parts), "rb")  # noqa: SIM115
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return FileAnswer(where, None)
        except OSError as error:
            raise unreadable(where, error) from None
        return FileAnswer(where, file, start, end)

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


def labelled_volumes(root: str, label: str) -> dict[str, Volume]:
    """The devices, by name, that have a file system of that label."""
    block = os.path.join(root, "sys/class/block")
    found: dict[str, Volume] = {}
    names = sorted(os.listdir(block)) if os.path.isdir(block) else []
    for name in names:
        if name.startswith(NOT_DISKS):
            continue
        volume = read_volume(os.path.join(root, "dev", name))
        if volume and any(own.lower() == label.lower() for own in volume.labels):
            found[name] = volume
    # An ISO image that boots shows its file system as the disk and as a partition of it.
    for name in list(found):
        parent = os.path.basename(os.path.dirname(os.path.realpath(os.path.join(block, name))))
        if os.path.exists(os.path.join(block, name, "partition")):
            found.pop(parent, None)
    return found


def find_volume(root: str, label: str) -> tuple[str, Volume]:
    """The device with the file system of that label. Raises AgentError unless it is one."""
    found = labelled_volumes(root, label)
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
