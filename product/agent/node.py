"""The node as the agent's commands use it: one object that tests can build in a directory."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING

from product.agent.bootloader.boot import ESP_LABEL, BootInfo, Release, read_boot, read_release
from product.agent.bootloader.grub import GrubBootEnv
from product.agent.bootloader.live import LiveBootEnv
from product.agent.bootloader.protocol import BootEnv
from product.agent.errors import RefusedError
from product.agent.records.state import LoadedState, UpdateState, load_state, save_state
from product.agent.slots.volumes import SystemVolumes, Volumes
from product.agent.system.clock import Clock
from product.agent.system.paths import Paths

if TYPE_CHECKING:
    from product.agent.net.interfaces import Network

# How long a reboot waits for the disk before it begins: seconds.
SYNC_SECONDS = 60


class Node:
    """Paths, clocks, partitions, boot environment and the power switch."""

    def __init__(
        self,
        paths: Paths | None = None,
        *,
        volumes: Volumes | None = None,
        clock: Clock | None = None,
        reboot: Callable[[], None] | None = None,
        addresses: Callable[[], dict[int, list[str]]] | None = None,
    ) -> None:
        """``addresses``: see product.agent.net.interfaces.read_addresses."""
        self.paths = paths or Paths()
        self.volumes: Volumes = volumes or SystemVolumes(self.paths)
        self.clock = clock or Clock()
        self.reboot = reboot or _reboot
        self._addresses = addresses
        self._boot: BootInfo | None = None
        self._release: Release | None = None

    @property
    def boot(self) -> BootInfo:
        """This boot. Raises BootInfoError."""
        if self._boot is None:
            self._boot = read_boot(self.paths)
        return self._boot

    @property
    def release(self) -> Release:
        """The image that runs. Raises BootInfoError."""
        if self._release is None:
            self._release = read_release(self.paths)
        return self._release

    @property
    def boot_env(self) -> BootEnv:
        """The boot loader's environment. Raises BootInfoError."""
        if self.boot.live:
            return LiveBootEnv()
        return GrubBootEnv(self.mounted_esp, self.paths.environment)

    def require_installed(self) -> None:
        """Raise RefusedError on a live system: there is no slot to write or to return to."""
        if self.boot.live:
            raise RefusedError(
                "this system runs from a medium: there is nothing to update",
                hint="install it to a disk first (kubesolo-install), or boot a newer medium",
                code="live-system",
            )

    def read_network(self) -> Network:
        """The network as it is now."""
        from product.agent.net.interfaces import Around, read_network

        paths = self.paths
        around = Around(paths.network, f"{paths.proc}/net", paths.resolver)
        return read_network(paths.sys, paths.dhcp, self._addresses, around)

    def load_state(self, *, set_aside: bool = False) -> LoadedState:
        """See product.agent.records.state."""
        return load_state(self.paths.state, set_aside=set_aside)

    def save_state(self, state: UpdateState) -> UpdateState:
        """See product.agent.records.state."""
        return save_state(self.paths.state, state, self.clock.now())

    def print_console(self, line: str) -> None:
        """One line for whoever watches the console; nothing depends on its being seen."""
        text = " ".join(line.split()) + "\n"
        _append(self.paths.console, text)
        # Which is a serial line where there is one; a person may be looking at the screen.
        if "tty0" in _words(self.paths.consoles)[:-1]:
            _append(self.paths.screen, text)
        # The kernel's log keeps it; as a debug message it comes to no console a second time.
        _append(self.paths.kmsg, f"<7>{text}")

    def mounted_esp(self, writable: bool) -> AbstractContextManager[str]:
        """The directory that shows KSOLOEFI. Raises VolumeError, BootInfoError."""
        device = self.boot.device(ESP_LABEL)
        return self.volumes.mounted(device, self.paths.esp_mount, kind="vfat", writable=writable)


def _words(path: str) -> list[str]:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read(4096).split()
    except OSError:
        return []


def _append(path: str, text: str) -> None:
    """Write to a device that may not be there."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.write(descriptor, text.encode(errors="backslashreplace"))
    except OSError:
        return
    finally:
        os.close(descriptor)


def boot_disk_copies(node: Node) -> list[str]:
    """EFI partitions of other disks that carry the boot disk's identity."""
    from product.disk.find import copies_of

    return copies_of(os.path.basename(node.boot.device(ESP_LABEL)), node.paths.root)


def _reboot() -> None:
    """An orderly stop of all services, then a reset, be it of a disk that does not answer."""
    from product.agent.system import program
    from product.agent.system.isolation import IsolatedRunner, NoAnswerError

    def sync() -> bytes:
        os.sync()
        return b"done"

    # The stop brings everything to the disk once more, and has a limit of its own.
    with suppress(NoAnswerError, OSError):
        IsolatedRunner().run("sync", SYNC_SECONDS, sync)
    program.require(["/sbin/reboot"])
