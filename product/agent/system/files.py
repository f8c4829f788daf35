"""Files that a power cut leaves either old or new, never torn.

The order is what makes it so: the new content reaches the disk under another name before the
rename may, and the rename reaches the disk before the caller goes on.
"""

from __future__ import annotations

import os


def write_atomic(path: str, data: bytes, *, mode: int = 0o600) -> None:
    """Replace ``path`` by ``data``; its directory is made where it is missing. Raises OSError."""
    directory = os.path.dirname(path)
    make_directories(directory)
    temporary = f"{path}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        write_all(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(temporary, path)
    sync_directory(directory)


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write every byte of ``data``; one write(2) may take less than it is given."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def sync_directory(path: str) -> None:
    """Bring the names in ``path`` to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directories(path: str) -> None:
    """Make ``path`` and its parents, and bring every new name to the disk."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    if parent != path:
        make_directories(parent)
    try:
        os.mkdir(path, 0o755)
    except FileExistsError:
        return
    sync_directory(parent)


def read_bounded(path: str, limit: int) -> bytes:
    """The content of ``path``, which is expected to be small. Raises OSError, or ValueError
    where it holds more than ``limit`` bytes."""
    with open(path, "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"{path} is larger than {limit} bytes")
    return data
