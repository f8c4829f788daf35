"""Durable, atomic writes into a directory that is being served while it changes.

Every file appears whole, under its final name, only after its bytes are on the disk; a reader or
a power cut sees the old file or the new one.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from product.release.errors import RepositoryError

_CHUNK = 1024 * 1024
# What a web server, which runs as somebody else, needs to read a file.
_WORLD_READABLE = 0o444


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file's content in lower-case hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sync_directory(directory: Path) -> None:
    """Make the names in ``directory`` durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_file(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data``, readable by everybody."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _replacement(path) as temporary, temporary.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def place_file(source: Path, path: Path, sha256: str) -> None:
    """Make ``path`` a file with the content of ``source``, whose digest the caller has checked.

    A hard link where the file system allows it and the mode lets a web server read it, else a
    copy. A file that is already there with the right content is kept.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file() and sha256_file(path) == sha256:
        return
    with _replacement(path) as temporary:
        if not _link(source, temporary):
            with source.open("rb") as reader, temporary.open("wb") as writer:
                shutil.copyfileobj(reader, writer, _CHUNK)
        # A linked source may still be in the page cache alone.
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())


def _link(source: Path, destination: Path) -> bool:
    if source.is_symlink() or source.stat().st_mode & _WORLD_READABLE != _WORLD_READABLE:
        return False
    destination.unlink()
    try:
        os.link(source, destination)
    except OSError:
        # Another file system, or one without links: the caller copies.
        destination.touch(mode=0o644)
        return False
    return True


@contextlib.contextmanager
def _replacement(path: Path) -> Iterator[Path]:
    """A temporary neighbour of ``path`` that takes its name when the block succeeds."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        os.fchmod(descriptor, 0o644)
        os.close(descriptor)
        yield temporary
        temporary.replace(path)
        sync_directory(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Let one publisher at a time change ``directory``.

    Raises RepositoryError at once where another holds it. The lock is on the directory itself, so
    no lock file is served, and it ends with its process.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RepositoryError(
                f"another process is changing the repository {directory}",
                hint="wait until it has finished, then try again",
            ) from None
        yield
    finally:
        os.close(descriptor)
