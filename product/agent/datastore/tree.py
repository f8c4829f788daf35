"""Copying a directory so that the copy can be proved, and removing one.

Regular files, directories and symbolic links are copied, with mode and owner; sockets and pipes
belong to the process that made them. Holes stay holes: etcd reserves far more than it writes.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from product.agent.system.files import sync_directory

CHUNK = 1024 * 1024


class FileEntry(NamedTuple):
    """A file of a copy, by its path in it."""

    path: str
    size: int
    sha256: str


def walk(directory: str, below: str = "") -> Iterator[tuple[str, os.stat_result]]:
    """Every entry under ``directory`` with its path in it, a directory before what it holds."""
    with os.scandir(f"{directory}/{below}" if below else directory) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        path = f"{below}/{entry.name}" if below else entry.name
        status = entry.stat(follow_symlinks=False)
        yield path, status
        if stat.S_ISDIR(status.st_mode):
            yield from walk(directory, path)


def content(directory: str) -> int:
    """Bytes that a copy of ``directory`` takes: without the holes of its files."""
    total = 0
    for path, status in walk(directory):
        if stat.S_ISREG(status.st_mode):
            with suppress(FileNotFoundError):
                descriptor = os.open(f"{directory}/{path}", os.O_RDONLY | os.O_CLOEXEC)
                try:
                    total += sum(end - start for start, end in _data(descriptor, status.st_size))
                finally:
                    os.close(descriptor)
    return total


def warm(directory: str) -> None:
    """Ask the kernel to read all files now, so that a copy soon after is quick."""
    for path, status in walk(directory):
        if stat.S_ISREG(status.st_mode):
            with suppress(OSError):
                descriptor = os.open(f"{directory}/{path}", os.O_RDONLY | os.O_CLOEXEC)
                try:
                    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
                finally:
                    os.close(descriptor)


def copy(source: str, target: str) -> None:
    """Copy ``source`` to the new directory ``target``. Nothing is synced. Raises OSError."""
    _make(target, os.stat(source))
    for path, status in walk(source):
        old, new = f"{source}/{path}", f"{target}/{path}"
        if stat.S_ISDIR(status.st_mode):
            _make(new, status)
        elif stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(old), new)
        elif stat.S_ISREG(status.st_mode):
            _copy_file(old, new, status)


def copy_entry(source: str, target: str) -> None:
    """The same for whatever ``source`` is; a socket, a pipe or a device is no data."""
    status = os.lstat(source)
    if stat.S_ISDIR(status.st_mode):
        copy(source, target)
    elif stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(source), target)
    elif stat.S_ISREG(status.st_mode):
        _copy_file(source, target, status)


def seal(directory: str) -> tuple[FileEntry, ...]:
    """Bring all of ``directory`` to the disk; its files with their digests. Raises OSError."""
    entries = []
    directories = [directory]
    for path, status in walk(directory):
        name = f"{directory}/{path}"
        if stat.S_ISDIR(status.st_mode):
            directories.append(name)
        elif stat.S_ISREG(status.st_mode):
            descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
                entries.append(FileEntry(path, status.st_size, _digest(descriptor)))
            finally:
                os.close(descriptor)
    for name in reversed(directories):
        sync_directory(name)
    return tuple(entries)


def find_damage(directory: str, entries: tuple[FileEntry, ...]) -> str | None:
    """How ``directory`` differs from ``entries``; None where it does not."""
    expected = {entry.path: entry for entry in entries}
    try:
        for path, status in walk(directory):
            if not stat.S_ISREG(status.st_mode):
                continue
            entry = expected.pop(path, None)
            if entry is None:
                return f"{path} was added"
            if entry.size != status.st_size:
                return f"{path} has {status.st_size} bytes instead of {entry.size}"
            descriptor = os.open(f"{directory}/{path}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                if _digest(descriptor) != entry.sha256:
                    return f"{path} has other bytes than were written"
            finally:
                os.close(descriptor)
    except OSError as error:
        return f"{error.filename or directory} cannot be read: {error.strerror}"
    return f"{min(expected)} is missing" if expected else None


def remove(path: str) -> None:
    """Remove a file or a directory with all that it holds; nothing where it is missing."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if stat.S_ISDIR(status.st_mode):
        with os.scandir(path) as entries:
            names = [entry.name for entry in entries]
        for name in names:
            remove(f"{path}/{name}")
        os.rmdir(path)
    else:
        os.unlink(path)


def _make(path: str, status: os.stat_result) -> None:
    os.mkdir(path, 0o700)
    _keep_owner(path, status)
    os.chmod(path, stat.S_IMODE(status.st_mode))


def _keep_owner(path: str | int, status: os.stat_result) -> None:
    if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
        os.chown(path, status.st_uid, status.st_gid)


def _copy_file(old: str, new: str, status: os.stat_result) -> None:
    source = os.open(old, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        target = os.open(new, flags, 0o600)
        try:
            _keep_owner(target, status)
            os.fchmod(target, stat.S_IMODE(status.st_mode))
            size = os.fstat(source).st_size
            os.ftruncate(target, size)
            for start, end in _data(source, size):
                _copy_range(source, target, start, end)
        finally:
            os.close(target)
    finally:
        os.close(source)


def _data(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """Where the file is not a hole."""
    end = 0
    while end < size:
        try:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError:
            # ENXIO: nothing but a hole is left.
            return
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield start, min(end, size)


def _copy_range(source: int, target: int, start: int, end: int) -> None:
    os.lseek(target, start, os.SEEK_SET)
    while start < end:
        sent = os.sendfile(target, source, start, end - start)
        if sent == 0:
            raise OSError(5, "the file became shorter while it was copied")
        start += sent


def _digest(descriptor: int) -> str:
    import hashlib

    digest = hashlib.sha256()
    os.lseek(descriptor, 0, os.SEEK_SET)
    while chunk := os.read(descriptor, CHUNK):
        digest.update(chunk)
    return digest.hexdigest()
