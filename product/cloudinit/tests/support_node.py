"""A node's /sys, /dev and file systems in a directory; mounting shows a folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from product.cloudinit.boot import Boot, Outcome
from product.cloudinit.errors import CloudInitError
from product.cloudinit.sources import Where

ESP, DISK = "/dev/vda1", "/dev/vda"
# Where a FAT has its label and ISO 9660 its own; enough of a file system for the label's reader.
_ISO_AT, _ISO_LABEL_AT = 16 * 2048, 40


def fat(label: str) -> bytes:
    """The boot sector of a FAT16 with a label."""
    sector = bytearray(512)
    sector[11:13] = (512).to_bytes(2, "little")
    sector[13], sector[14], sector[16], sector[17], sector[22] = 4, 1, 2, 16, 1
    sector[43:54] = label.encode().ljust(11)
    sector[510:] = b"\x55\xaa"
    return bytes(sector)


def iso(label: str) -> bytes:
    """The volume descriptor of an ISO image with a label, and what is before it."""
    block = bytearray(2048)
    block[:6] = b"\x01CD001"
    block[_ISO_LABEL_AT : _ISO_LABEL_AT + 32] = label.encode().ljust(32)
    return bytes(_ISO_AT) + bytes(block)


class FakeNode(Where):
    """Disks are folders; ``locked`` ones cannot be mounted to write."""

    def __init__(self, root: Path) -> None:
        super().__init__(str(root))
        self.path = root
        self.folders: dict[str, Path] = {}
        self.locked: set[str] = set()
        self.mounts: list[tuple[str, str, bool]] = []
        for folder in ("dev", "sys/class/block", "sys/bus/usb/devices", "usr/lib/kubesolo"):
            (root / folder).mkdir(parents=True)
        (root / "usr/lib/kubesolo/release.json").write_text('{"version": "0.1.0"}\n')
        self.disk("vda", b"")
        self.partition("vda", 1, fat("KSOLOEFI"))

    def disk(self, name: str, content: bytes) -> Path:
        """A disk; its files go into the folder returned."""
        self._device(name, self.path / "sys/devices" / name, content)
        return self._folder(name)

    def partition(self, disk: str, number: int, content: bytes) -> Path:
        """A partition of it, likewise."""
        name = f"{disk}{number}"
        self._device(name, self.path / "sys/devices" / disk / name, content)
        (self.path / "sys/devices" / disk / name / "partition").write_text(f"{number}\n")
        return self._folder(name)

    def _folder(self, name: str) -> Path:
        self.folders[f"/dev/{name}"] = self.path / "disks" / name
        self.folders[f"/dev/{name}"].mkdir(parents=True)
        return self.folders[f"/dev/{name}"]

    def _device(self, name: str, folder: Path, content: bytes) -> None:
        folder.mkdir(parents=True)
        (self.path / "sys/class/block" / name).symlink_to(folder)
        (self.path / "dev" / name).write_bytes(content)

    def unplug(self, name: str) -> None:
        """Take a disk away."""
        (self.path / "sys/class/block" / name).unlink()

    @property
    def esp(self) -> Path:
        """The files of KSOLOEFI."""
        return self.folders[ESP]

    def serial(self, text: str) -> None:
        """What the firmware says."""
        path = self.path / "sys/class/dmi/id/product_serial"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")

    @contextmanager
    def mounted(self, device: str, kind: str, *, writable: bool = False) -> Iterator[str]:
        self.mounts.append((device, kind, writable))
        if device not in self.folders or (writable and device in self.locked):
            raise CloudInitError(f"cannot mount {device}")
        yield str(self.folders[device])

    def boot(self) -> Outcome:
        """Stage 45."""
        return Boot(self, DISK, ESP).run()

    def file(self, path: str) -> Path:
        """A file of the node."""
        return self.path / path.lstrip("/")


def write(folder: Path, files: Mapping[str, str]) -> None:
    """Text files into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
