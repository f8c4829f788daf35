"""Which boot loader lies somewhere: a release's own in its root, the installed one on KSOLOEFI.

A loader is a folder: ``EFI`` is what lies on KSOLOEFI under that name, ``bios`` (x86_64) holds
GRUB's ``boot.img`` and ``core.img`` for the disk's first sectors, ``board`` what a board's firmware
looks for at the top of KSOLOEFI. ``EFI/loader.json`` says what it is::

    {"files": {"EFI/BOOT/BOOTX64.EFI": "<SHA-256>", ...}, "version": "0.2.0"}
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from product.disk import records

ACTIVE, SPARE = "EFI", "SPARE"
RECORD = f"{ACTIVE}/loader.json"
BOARD = "board"
BIOS_BOOT, BIOS_CORE = "bios/boot.img", "bios/core.img"
MAX_RECORD = 64 * 1024
# Where the running release has its own.
IN_ROOT = "usr/lib/kubesolo/loader"


def spare_name(name: str) -> str:
    """Where a file of the top waits to take the place of the one in use: ``START.NEW``."""
    return f"{name.partition('.')[0]}.NEW"


class Loader(NamedTuple):
    """The release that a loader came with, and each file's SHA-256 by its path in the folder."""

    version: str
    files: dict[str, str]

    def to_bytes(self) -> bytes:
        """The record's content."""
        return records.format_record("version", self.version, self.files)


def parse_record(data: bytes, origin: str) -> Loader:
    """Raises DiskError for anything that is no record; ``origin`` names it."""
    return Loader(*records.parse_record(data, "version", origin, "a boot loader"))


def describe(folder: str, version: str) -> Loader:
    """The record of what ``folder`` holds. Raises OSError."""
    import hashlib  # a node reads records at every boot, and hashes at few

    files = {}
    for name in sorted(_names(folder)):
        with open(os.path.join(folder, name), "rb") as stream:
            files[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return Loader(version, files)


def _names(folder: str) -> Iterator[str]:
    for here, _, names in os.walk(folder):
        for name in names:
            path = os.path.relpath(os.path.join(here, name), folder)
            if path != RECORD:
                yield path
