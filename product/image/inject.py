"""Files for one machine, put into the EFI partition of an image: its configuration, a repository.

Only a copy of the partition is changed. mtools does it: no root, no mount.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from product.disk.errors import DiskError
from product.disk.gpt import Partition, read_table
from product.disk.prepare import open_disk
from product.image import sparse
from product.image.disk import DATA_LABEL, ESP_LABEL, SECTOR
from product.image.errors import ImageError, ToolError
from product.image.tools import HostTools

# Where a node looks for its configuration, and where a repository for it lies.
CONFIGURATION, REPOSITORY = "kubesolo", "updates"
# So many files are named in one message.
_NAMED = 5
_BUILD = "build one: ./noxw -s image -- --output disk.img"


class Places:
    """Where an image's parts lie, in bytes: ``esp`` and ``data`` are start and end."""

    def __init__(self, image: Path) -> None:
        """Read the partition table of ``image``. Raises ImageError."""
        if not image.is_file():
            raise ImageError(f"there is no disk image {image}", hint=_BUILD)
        self.size = image.stat().st_size
        try:
            with open_disk(str(image), writable=False) as disk:
                table = read_table(disk)
        except DiskError as error:
            raise ImageError(
                f"{image} is no image of this system: {error.message}",
                hint=f"unpack a compressed one first, or {_BUILD}",
            ) from None
        parts = {part.name: part for part in table.partitions.values()}
        if missing := sorted({ESP_LABEL, DATA_LABEL} - parts.keys()):
            found = ", ".join(sorted(parts)) or "none"
            raise ImageError(
                f"{image} has no partition {' and '.join(missing)}; it has {found}", hint=_BUILD
            )
        self.esp = _span(parts[ESP_LABEL])
        self.data = _span(parts[DATA_LABEL])


def _span(part: Partition) -> tuple[int, int]:
    return part.first * SECTOR, (part.last + 1) * SECTOR


def esp_with(
    image: Path,
    places: Places,
    files: Mapping[str, bytes],
    repository: Path | None,
    tools: HostTools,
    work: Path,
) -> Path:
    """A copy of the image's EFI partition, in ``work``, with ``files`` and ``repository`` in it.

    What the image had at the same places is gone. Raises ImageError, ToolError, OSError.
    """
    esp = work / "esp"
    begin, end = places.esp
    with image.open("rb") as reader, esp.open("wb") as writer:
        for start, stop in sparse.extents(reader.fileno(), end, begin):
            reader.seek(start)
            writer.seek(start - begin)
            while start < stop and (block := reader.read(min(stop - start, 1 << 20))):
                writer.write(block)
                start += len(block)
        writer.truncate(end - begin)
    if files:
        folder = work / CONFIGURATION
        folder.mkdir()
        for name, data in files.items():
            (folder / name).write_bytes(data)
        _put(esp, folder, CONFIGURATION, tools)
    if repository is not None:
        require_repository(repository)
        try:
            _put(esp, repository, REPOSITORY, tools)
        except ToolError as error:
            size = sum(path.stat().st_size for path in repository.rglob("*") if path.is_file())
            raise ImageError(
                f"the repository {repository} of {size >> 20} MiB does not fit onto {ESP_LABEL} of "
                f"{(end - begin) >> 20} MiB: {error.message}",
                hint="keep only the latest release of one architecture in it",
            ) from None
    tools.run("fsck.fat", "-n", esp)
    return esp


def require_repository(folder: Path) -> None:
    """Raise ImageError where ``folder`` is no release repository, or not all of it can be read."""
    if not all(os.path.isdir(folder / name) for name in ("metadata", "artifacts")):
        raise ImageError(
            f"{folder} is no release repository: it needs the folders metadata and artifacts",
            hint="./noxw -s release -- --help shows how to make one",
        )
    unreadable = [
        path.relative_to(folder).as_posix()
        for path, is_folder in _contents(folder)
        if not os.access(path, os.R_OK | os.X_OK if is_folder else os.R_OK)
        or not (is_folder or path.is_file())
    ]
    if unreadable:
        more = f" and {len(unreadable) - _NAMED} more" if len(unreadable) > _NAMED else ""
        raise ImageError(
            f"{', '.join(unreadable[:_NAMED])}{more} of the repository {folder} cannot be read: a "
            "node would miss it",
            hint="is it another user's, or a link to nothing? Correct it, or remove it",
        )


def _contents(folder: Path) -> Iterator[tuple[Path, bool]]:
    """Everything in ``folder``, and whether it is a folder; a folder before what is in it."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        path, is_folder = Path(entry.path), entry.is_dir(follow_symlinks=False)
        yield path, is_folder
        if is_folder and os.access(path, os.R_OK | os.X_OK):
            yield from _contents(path)


def read_back(esp: Path, name: str, tools: HostTools) -> bytes:
    """One file of the folder of configuration."""
    return tools.run("mtype", "-i", esp, f"::{CONFIGURATION}/{name}")


def _put(esp: Path, folder: Path, name: str, tools: HostTools) -> None:
    there = tools.run("mdir", "-b", "-i", esp, "::").decode(errors="replace").lower().split()
    if f"::/{name}/" in there:
        tools.run("mdeltree", "-i", esp, f"::{name}")
    tools.run("mmd", "-i", esp, f"::{name}")
    # Not all at once: the command line of a large repository would be too long.
    for path, is_folder in _contents(folder):
        inside = path.relative_to(folder).as_posix()
        if is_folder:
            tools.run("mmd", "-i", esp, f"::{name}/{inside}")
        else:
            tools.run("mcopy", "-Q", "-m", "-i", esp, path, f"::{name}/{inside}")
