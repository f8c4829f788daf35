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
# linux/fs.h
_FICLONE = 0x40049409


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
    """Make ``path`` a file of its own with the content of ``source``, whose SHA-256 is ``sha256``.

    A file that is already there with the right content is kept. The file system may share the
    blocks, never the file: what happens to ``source`` later does not reach the repository. Raises
    RepositoryError where ``source`` changed meanwhile.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file() and path.stat().st_nlink == 1 and sha256_file(path) == sha256:
        return
    with _replacement(path) as temporary:
        with source.open("rb") as reader, temporary.open("wb") as writer:
            if not _clone(reader.fileno(), writer.fileno()):
                shutil.copyfileobj(reader, writer, _CHUNK)
            writer.flush()
            os.fsync(writer.fileno())
        if (found := sha256_file(temporary)) != sha256:
            raise RepositoryError(
                f"{source} changed while it was published: its SHA-256 was {sha256}, now {found}",
                hint="publish again when nothing writes there any more",
            )


def _clone(source: int, destination: int) -> bool:
    """Share the blocks of a file where the file system can (btrfs, XFS)."""
    try:
        fcntl.ioctl(destination, _FICLONE, source)
    except OSError:
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
