"""The key on a USB stick: ``UUID.key``, 32 bytes, on a FAT file system labelled KSOLOKEY.

UUID is the LUKS volume's, so one stick may open several nodes. It is needed while a node boots, and
may be pulled out afterwards.
"""

from __future__ import annotations

import os
import time

from product.agent.system.files import read_bounded, sync_directory
from product.cloudinit.errors import CloudInitError
from product.cloudinit.sources import Where, settle
from product.disk.labels import read_volume
from product.encryption import drivers
from product.encryption.errors import EncryptionError, NoStickError

LABEL = "KSOLOKEY"
KEY_BYTES = 32
# How long a boot waits for a stick that is late; seconds.
WAIT_SECONDS = 30.0
_POLL_SECONDS = 0.5


class Sticks:
    """The sticks that are plugged in; every method raises EncryptionError."""

    def __init__(self, where: Where | None = None) -> None:
        self._where = where or Where()

    def wait(self, seconds: float = WAIT_SECONDS) -> str:
        """The device of the stick. Raises NoStickError where none comes, or there are two."""
        end = time.monotonic() + seconds
        while True:
            drivers.load(self._where)
            settle(self._where)
            found = self._find()
            if len(found) > 1:
                raise NoStickError(
                    f"{' and '.join(found)} are both labelled {LABEL}", hint="unplug one of them"
                )
            if found:
                return found[0]
            if time.monotonic() > end:
                raise NoStickError(
                    f"no stick labelled {LABEL} is plugged in",
                    hint=f"plug it in and restart; mkfs.fat -n {LABEL} makes one",
                )
            time.sleep(_POLL_SECONDS)

    def _find(self) -> list[str]:
        folder = self._where.under("sys/class/block")
        found = []
        for name in sorted(os.listdir(folder)):
            if name.startswith(("ram", "loop", "zram", "dm-")):
                continue
            volume = read_volume(self._where.under(f"dev/{name}"))
            if volume and volume.kind == "vfat" and LABEL in volume.labels:
                found.append(f"/dev/{name}")
        return found

    def read(self, uuid: str, seconds: float = WAIT_SECONDS) -> bytes:
        """The key of a volume."""
        device = self.wait(seconds)
        name = _name(uuid)
        try:
            with self._where.mounted(device, "vfat") as folder:
                key = read_bounded(os.path.join(folder, name), 2 * KEY_BYTES)
        except FileNotFoundError:
            raise NoStickError(
                f"the stick {device} has no {name}", hint="it is another node's"
            ) from None
        except (OSError, ValueError, CloudInitError) as error:
            raise EncryptionError(f"{name} on the stick {device} cannot be read: {error}") from None
        if len(key) != KEY_BYTES:
            raise EncryptionError(f"{name} on the stick {device} has {len(key)} bytes, not 32")
        return key

    def write(self, uuid: str, key: bytes, seconds: float = 0.0) -> None:
        """Put the key of a volume onto the stick; it is there when this returns."""
        device = self.wait(seconds)
        name = _name(uuid)
        try:
            with self._where.mounted(device, "vfat", writable=True) as folder:
                path = os.path.join(folder, name)
                with open(f"{path}.new", "wb") as file:
                    file.write(key)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(f"{path}.new", path)
                sync_directory(folder)
        except (OSError, CloudInitError) as error:
            raise EncryptionError(
                f"{name} cannot be written to the stick {device}: {error}",
                hint="is it write-protected, or full?",
            ) from None


def _name(uuid: str) -> str:
    return f"{uuid}.key"
