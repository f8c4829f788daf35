"""What a board's firmware reads of a machine's disk, and the files that it loads from it."""

from __future__ import annotations

import os
import re
import subprocess
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError
from harness.qemu.tools import HostTools
from product.disk.autoboot import NAME
from product.disk.errors import DiskError
from product.disk.fat import count_clusters
from product.disk.gpt import Disk, read_table
from scenarios.firmware.raspberry import Boot, FatKind, Volume

_MIB = 1 << 20
# Firmware looks for a FAT in these: the EFI system partition, and Microsoft's basic data.
_FAT_TYPES = frozenset(
    map(uuid.UUID, ("c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7"))
)
_READ = (NAME, "config.txt", "cmdline.txt")


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the firmware puts into memory; ``append`` is the kernel's command line."""

    kernel: Path
    initrd: Path
    append: str


class Card:
    """The FAT file systems of a qcow2 disk that nobody writes meanwhile, copied to ``folder``."""

    def __init__(self, disk: Path, size: int, tools: HostTools, folder: Path) -> None:
        """``size`` is the disk's, in bytes. Raises HarnessError."""
        self._tools = tools
        self._folder = folder
        self._disk = disk
        folder.mkdir(exist_ok=True)
        self.volumes: Mapping[int, Volume] = {
            number: self._volume(number) for number in self._copy(size)
        }

    def load(self, boot: Boot) -> Loaded:
        """The files that config.txt of the chosen partition names. Raises HarnessError."""
        files = self.volumes[boot.partition].files
        config = (files.get(boot.config) or b"").decode("latin-1")
        line = (files.get(_named(config, "cmdline", "cmdline.txt")) or b"").decode("latin-1")
        kernel = self._file(boot.partition, _named(config, "kernel", "kernel8.img"))
        initrd = self._file(boot.partition, _named(config, "initramfs", "initramfs8"))
        return Loaded(kernel, initrd, line.strip())

    def _copy(self, size: int) -> list[int]:
        """The partitions' table, then each FAT; their numbers."""
        head = self._folder / "table"
        self._range(0, 1, head)
        os.truncate(head, size)
        descriptor = os.open(head, os.O_RDONLY)
        try:
            table = read_table(Disk(descriptor, str(self._disk)))
        except DiskError as error:
            raise HarnessError(f"the firmware reads no partition table: {error}") from None
        finally:
            os.close(descriptor)
        numbers = []
        for number, part in sorted(table.partitions.items()):
            if part.type in _FAT_TYPES:
                first, last = part.first * 512 // _MIB, (part.last + 1) * 512 // _MIB
                self._range(first, last - first, self._image(number))
                numbers.append(number)
        return numbers

    def _range(self, skip: int, count: int, target: Path) -> None:
        """MiB of the disk, with what its overlays say."""
        target.unlink(missing_ok=True)
        self._run(
            "qemu-img", "dd", "-f", "qcow2", "-O", "raw", "bs=1M", f"skip={skip}",
            f"count={skip + count}", f"if={self._disk}", f"of={target}",
        )  # fmt: skip

    def _volume(self, number: int) -> Volume:
        image = self._image(number)
        with image.open("rb") as stream:
            try:
                clusters = count_clusters(stream.read(512))
            except DiskError:
                return Volume({}, clusters=0)  # no FAT: the firmware does not read it
        listing = self._run("mdir", "-b", "-i", str(image), "::").decode()
        names = [line.removeprefix("::/") for line in listing.splitlines()]
        files: dict[str, bytes | None] = dict.fromkeys(names)
        for name in _READ:
            if name in files:
                files[name] = self._run("mtype", "-i", str(image), f"::{name}")
        return Volume(files, FatKind.FAT32, clusters)

    def _file(self, number: int, name: str) -> Path:
        target = self._folder / f"{number}-{name}"
        target.unlink(missing_ok=True)
        self._run("mcopy", "-i", str(self._image(number)), f"::{name}", str(target))
        return target

    def _image(self, number: int) -> Path:
        return self._folder / f"fat-{number}"

    def _run(self, program: str, *arguments: str) -> bytes:
        done = subprocess.run(
            self._tools.argv(program, *arguments), capture_output=True, check=False
        )
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip()
            raise HarnessError(f"the firmware cannot read the card: {program}: {said}")
        return done.stdout


def _named(config: str, key: str, default: str) -> str:
    """The last file that config.txt names for ``key``: ``key=NAME``, or ``initramfs NAME ...``."""
    found = re.findall(rf"^{key}[= ](\S+)", config, re.M)
    return found[-1] if found else default
