"""Seed disks: what cloud-init calls NoCloud, a small file system labelled cidata.

Equal files give equal bytes, whatever the day and the host.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from product.image.cache import Cache
from product.image.errors import ImageError
from product.image.tools import HostTools

LABEL = "cidata"
Kind = Literal["vfat", "iso9660"]
_MIB = 1 << 20
_SECTOR = 512
# Beside the files: the tables of the file system, and room for a node to write into.
_SPARE = 2 * _MIB
_SERIAL = "c1da7a00"
_MBR_ID = "0xc1da7a00"
# The first day that a FAT file system can name.
_TIME = 315532800
_ENVIRONMENT = {"SOURCE_DATE_EPOCH": str(_TIME)}


def seed_image(
    path: Path,
    files: Mapping[str, bytes],
    kind: Kind = "vfat",
    label: str = LABEL,
    *,
    partitioned: bool = False,
    rock_ridge: bool = True,
    tools: HostTools | None = None,
) -> Path:
    """Write a seed disk with ``files`` in its root folder; returns ``path``.

    ``partitioned`` puts the file system into the only partition of an MBR, as on a stick. Without
    ``rock_ridge`` an ISO image has bare names, such as USER_DATA.;1, else also Joliet's. ``tools``
    are the locked host programs. Raises ImageError, OSError.
    """
    for name in files:
        if not name or name in (".", "..") or "/" in name:
            raise ImageError(f"a seed cannot hold a file named {name!r}", hint="give a plain name")
    programs = tools or HostTools.prepare(Cache())
    with tempfile.TemporaryDirectory(prefix="seed-", dir=path.absolute().parent) as folder:
        work = Path(folder)
        contents = work / "files"
        contents.mkdir()
        for name, data in sorted(files.items()):
            (contents / name).write_bytes(data)
        for file in (*contents.iterdir(), contents):
            os.utime(file, (_TIME, _TIME))
        image = work / "image"
        if kind == "vfat":
            _vfat(image, contents, label, programs)
        else:
            _iso(image, contents, label, rock_ridge, programs)
        if partitioned:
            image = _partitioned(image, work / "disk", kind, programs)
        image.replace(path)
    return path


def _vfat(image: Path, contents: Path, label: str, tools: HostTools) -> None:
    names = sorted(contents.iterdir())
    size = sum(file.stat().st_size for file in names) + _SPARE
    with image.open("wb") as stream:
        stream.truncate(-(-size // _MIB) * _MIB)
    tools.run(
        "mkfs.fat", "-n", label, "-i", _SERIAL, "--invariant", image, environment=_ENVIRONMENT
    )
    for file in names:
        tools.run("mcopy", "-i", image, file, f"::{file.name}", environment=_ENVIRONMENT)


def _iso(image: Path, contents: Path, label: str, rock_ridge: bool, tools: HostTools) -> None:
    names = ("-J",) if rock_ridge else ("-iso-level", "3")
    tools.run(
        "xorriso", "-rockridge", "on" if rock_ridge else "off", "-as", "mkisofs", "-quiet", *names,
        "-V", label, "-o", image, contents, environment=_ENVIRONMENT,
    )  # fmt: skip


def _partitioned(image: Path, disk: Path, kind: Kind, tools: HostTools) -> Path:
    data = image.read_bytes()
    with disk.open("wb") as stream:
        stream.truncate(_MIB + len(data))
    script = (
        f"label: dos\nlabel-id: {_MBR_ID}\nstart={_MIB // _SECTOR}, size={len(data) // _SECTOR}, "
        f"type={'c' if kind == 'vfat' else '17'}\n"
    )
    tools.run("sfdisk", "-q", "--no-reread", "--no-tell-kernel", disk, stdin=script.encode())
    with disk.open("r+b") as stream:
        stream.seek(_MIB)
        stream.write(data)
    return disk
