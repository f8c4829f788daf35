"""One layer of a container image: a tar whose bytes depend on its entries alone."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import NamedTuple

from product.image.errors import ImageError

_KINDS = {"folder": tarfile.DIRTYPE, "file": tarfile.REGTYPE, "link": tarfile.SYMTYPE}


class Entry(NamedTuple):
    """One path of a layer, relative to the image's root; made by the functions below."""

    path: str
    kind: str
    mode: int
    data: bytes = b""
    target: str = ""


def folder(path: str, mode: int = 0o755) -> Entry:
    """A directory."""
    return Entry(path, "folder", mode)


def file(path: str, data: bytes, mode: int = 0o644) -> Entry:
    """A regular file."""
    return Entry(path, "file", mode, data)


def link(path: str, target: str) -> Entry:
    """A symbolic link."""
    return Entry(path, "link", 0o777, b"", target)


def pack(entries: Iterable[Entry], source_date: int) -> bytes:
    """The layer's bytes: sorted, owned by root, every time ``source_date``, parents added.

    Raises ImageError for a path that is given twice or leaves the root.
    """
    by_path: dict[str, Entry] = {}
    for entry in entries:
        parts = PurePosixPath(entry.path)
        if parts.is_absolute() or ".." in parts.parts or str(parts) != entry.path:
            raise ImageError(f"{entry.path!r} is not a plain path below an image's root")
        if entry.path in by_path:
            raise ImageError(f"an image has {entry.path} twice")
        by_path[entry.path] = entry
    for path in list(by_path):
        for parent in PurePosixPath(path).parents[:-1]:
            above = by_path.setdefault(str(parent), folder(str(parent)))
            if above.kind != "folder":
                raise ImageError(f"an image has {path} below {above.path}, which is a {above.kind}")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path in sorted(by_path):
            _add(tar, by_path[path], source_date)
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, entry: Entry, source_date: int) -> None:
    info = tarfile.TarInfo(entry.path)
    info.type = _KINDS[entry.kind]
    info.mode = entry.mode
    info.mtime = source_date
    info.size = len(entry.data)
    info.linkname = entry.target
    tar.addfile(info, io.BytesIO(entry.data))
