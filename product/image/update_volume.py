"""The file system of a stick that updates nodes: FAT32, labelled KSOLOUPD.

Equal files give equal bytes, whatever the day and the host.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from product.disk.labels import UPDATE_LABEL
from product.image.errors import ImageError
from product.image.tools import HostTools

_MIB = 1 << 20
_SECTOR = 512
# FAT32 has at least 65525 clusters; below this mkfs.fat makes what some systems take for FAT16.
_LEAST = 48 * _MIB
# What one file's length may be there.
_LONGEST = (1 << 32) - 1
_SERIAL = "c501a0bd"
# The first day that a FAT file system can name.
_ENVIRONMENT = {"SOURCE_DATE_EPOCH": "315532800"}


def require_fits(files: Mapping[str, Path]) -> None:
    """Raise ImageError for a file that FAT32 cannot hold; ``files`` are by their name there."""
    for name, path in files.items():
        if (size := path.stat().st_size) > _LONGEST:
            raise ImageError(
                f"{path} has {size} bytes, and FAT32 holds files below 4 GiB: it cannot be {name}",
                hint="take the file apart, or leave it out",
            )


def volume_size(files: Mapping[str, Path]) -> int:
    """How many bytes the file system for ``files`` takes, a whole number of MiB."""
    # Beside the files: two tables of four bytes for each cluster, which has 512 bytes or more.
    content = sum(-(-path.stat().st_size // 4096) * 4096 for path in files.values())
    return -(-max(content * 103 // 100 + 4 * _MIB, _LEAST) // _MIB) * _MIB


def write_volume(
    target: Path, files: Mapping[str, Path], tools: HostTools, *, start: int = 0
) -> None:
    """Make the file system in ``target`` from byte ``start`` on, which is long enough for it.

    ``files`` are by their path in it. Raises ImageError, OSError.
    """
    require_fits(files)
    tools.run(
        "mkfs.fat", "-F", "32", "-n", UPDATE_LABEL, "-i", _SERIAL, "--invariant",
        "--offset", str(start // _SECTOR), "-h", str(start // _SECTOR),
        target, str(volume_size(files) // 1024), environment=_ENVIRONMENT,
    )  # fmt: skip
    place = f"{target}@@{start}"
    by_folder: dict[str, dict[str, Path]] = defaultdict(dict)
    for name, path in sorted(files.items()):
        by_folder[os.path.dirname(name)][os.path.basename(name)] = path
    folders: dict[str, None] = {}
    for folder in sorted(filter(None, by_folder)):
        parts = folder.split("/")
        folders |= dict.fromkeys("/".join(parts[:end]) for end in range(1, len(parts) + 1))
    if folders:
        tools.run("mmd", "-i", place, *(f"::{each}" for each in folders), environment=_ENVIRONMENT)
    for folder, named in sorted(by_folder.items()):
        assert all(path.name == name for name, path in named.items()), "mcopy keeps names"
        tools.run("mcopy", "-i", place, *named.values(), f"::{folder}/", environment=_ENVIRONMENT)
