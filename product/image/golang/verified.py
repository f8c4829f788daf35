"""Modules of the cache that were compared with go.sum are not hashed again while no file changed.

What was compared is remembered in ``go-verified`` of the project's cache, by the digest of go.mod
and go.sum: a digest over inode, size and times of every file of the modules that go.sum names.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from product.image.cache import Cache, digest_of
from product.image.durable import flush_tree


class Verified:
    """What is remembered of the modules below ``modules`` for one pair of go.mod and go.sum."""

    def __init__(self, cache: Cache, modules: Path, modfile: Path) -> None:
        self._modules = modules
        sums = modfile.with_suffix(".sum")
        self._sums = sums.read_text() if sums.is_file() else ""
        self._stamp = cache.root / "go-verified" / digest_of(modfile.read_text(), self._sums)

    def holds(self) -> bool:
        """Whether the modules were compared and no file of them has changed since."""
        with contextlib.suppress(OSError):
            return self._stamp.read_text() == self._state()
        return False

    def remember(self) -> None:
        """Say that the modules have just been compared. They are on the disk before that is."""
        # Somebody else's cache may be read-only.
        with contextlib.suppress(OSError):
            flush_tree(self._modules)
            self._stamp.parent.mkdir(exist_ok=True)
            self._stamp.write_text(self._state())

    def _state(self) -> str:
        found = hashlib.sha256()
        for line in sorted(set(self._sums.splitlines())):
            path, version, *_ = [*line.split(), "", ""]
            version = version.removesuffix("/go.mod")
            below = self._modules / "cache/download" / escaped(path) / "@v"
            for suffix in ("info", "mod", "zip", "ziphash"):
                found.update(_told(below / f"{escaped(version)}.{suffix}"))
            for file in _files(self._modules / f"{escaped(path)}@{escaped(version)}"):
                found.update(_told(file))
        return found.hexdigest()


def escaped(text: str) -> str:
    """As Go writes a capital letter in the names of its cache: ``!a`` for ``A``."""
    return "".join(f"!{one.lower()}" if one.isupper() else one for one in text)


def _files(folder: Path) -> Iterator[Path]:
    for top, names, files in os.walk(folder):
        names.sort()
        yield from (Path(top, name) for name in sorted(files))


def _told(path: Path) -> bytes:
    """Which file this is and when it was changed, by a clock that no program can set back."""
    try:
        status = path.lstat()
    except OSError:
        return f"{path.name} absent\n".encode()
    told = f"{path} {status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}\n"
    return told.encode()
