"""A stick with what a repository serves: as an image to write to one, or as files on a mounted one.

The node finds it by its label. Equal repositories give equal images, whatever the day and the host.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from product.image.cache import Cache
from product.image.tools import HostTools
from product.image.update_volume import require_fits, volume_size, write_volume
from product.release.contents import needed_files
from product.release.errors import ReleaseError
from product.release.state import read_state
from product.release.storage import exclusive, sha256_file, sync_directory
from product.release.verify import require_valid

_MIB = 1 << 20
_SECTOR = 512
# Where the only partition begins.
_START = _MIB
_MBR_ID = "0xc501a0bd"
_FOLDERS = ("metadata", "targets", "artifacts")


class Made(NamedTuple):
    """``size`` counts the bytes of the ``files``; ``removed`` are what a stick had before."""

    files: int
    size: int
    removed: int = 0


def make_stick(
    repository: Path,
    path: Path,
    *,
    tools: HostTools | None = None,
    now: datetime | None = None,
) -> Made:
    """Bring what nodes need of ``repository`` to ``path``.

    A directory is that of a mounted stick and gets the files; else a new image file is made, of a
    whole stick with one partition. Raises RepositoryError where the repository does not verify,
    ReleaseError where ``path`` is in the way or the files do not fit, ImageError for a file that no
    FAT32 holds.
    """
    with exclusive(repository):
        files = served_files(repository, now=now)
        require_fits(files)
        sizes = {name: file.stat().st_size for name, file in files.items()}
        if path.is_dir():
            removed = _fill(repository, path, list(files), sizes)
            return Made(len(files), sum(sizes.values()), removed)
        if path.exists():
            raise ReleaseError(
                f"{path} exists already",
                hint="name a new file and write that to the stick, or a mounted stick's directory",
            )
        programs = tools or HostTools.prepare(Cache())
        with tempfile.TemporaryDirectory(prefix=".stick-", dir=path.absolute().parent) as folder:
            image = Path(folder) / "image"
            _image(image, files, programs)
            image.replace(path)
    return Made(len(files), sum(sizes.values()))


def served_files(repository: Path, *, now: datetime | None = None) -> dict[str, Path]:
    """What nodes need of ``repository``, by path in it; whoever calls keeps publishers out.

    Raises RepositoryError where the repository does not verify.
    """
    require_valid(repository, now=now)
    return {name: repository / name for name in needed_files(repository, read_state(repository))}


def _image(image: Path, files: dict[str, Path], tools: HostTools) -> None:
    length = volume_size(files)
    with image.open("wb") as stream:
        stream.truncate(_START + length)
    script = (
        f"label: dos\nlabel-id: {_MBR_ID}\n"
        f"start={_START // _SECTOR}, size={length // _SECTOR}, type=c\n"
    )
    tools.run("sfdisk", "-q", "--no-reread", "--no-tell-kernel", image, stdin=script.encode())
    write_volume(image, files, tools, start=_START)


def _fill(repository: Path, path: Path, names: list[str], sizes: dict[str, int]) -> int:
    """Copy what is not there yet, the timestamp last, and remove what is needed no more."""
    missing = [name for name in names if not _is_there(repository / name, path / name)]
    room = shutil.disk_usage(path).free
    needed = sum(sizes[name] for name in missing)
    if needed > room:
        raise ReleaseError(
            f"{path} has {room // _MIB} MiB left, {-(-needed // _MIB)} MiB are needed",
            hint="take a larger stick, or remove what is on it",
        )
    for name in missing:
        target = path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        # FAT knows no modes.
        temporary = target.with_name(f"{target.name}.new")
        with (repository / name).open("rb") as reader, temporary.open("wb") as writer:
            shutil.copyfileobj(reader, writer, _MIB)
            writer.flush()
            os.fsync(writer.fileno())
        temporary.replace(target)
        sync_directory(target.parent)
    return _remove_others(path, set(names))


def _is_there(source: Path, target: Path) -> bool:
    if not target.is_file() or target.stat().st_size != source.stat().st_size:
        return False
    return sha256_file(source) == sha256_file(target)


def _remove_others(path: Path, names: set[str]) -> int:
    """Only in the repository's own folders, and only files of its kind."""
    removed = 0
    for folder in _FOLDERS:
        for file in sorted((path / folder).rglob("*")):
            own = file.suffix in (".json", ".new") or folder == "artifacts"
            if file.is_file() and own and str(file.relative_to(path)) not in names:
                file.unlink()
                removed += 1
    return removed
