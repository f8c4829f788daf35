"""Bring files to the disk, so that a rename after it never shows them hollow after a power cut."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

# So many files and folders are synced one by one. For more it is an order of magnitude faster to
# sync their whole file system once, which also writes what others have written to it.
_FEW = 32


def flush_file(path: Path) -> None:
    """Bring a file, or the list of names of a folder, to the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_tree(root: Path) -> None:
    """Bring everything below ``root`` to the disk. Raises OSError."""
    paths = [root]
    for folder, names, files in os.walk(root):
        paths += [Path(folder, name) for name in (*names, *files)]
    # A link lies in its folder's list.
    paths = [path for path in paths if not path.is_symlink()]
    if len(paths) <= _FEW or not _sync_file_system(root):
        for path in reversed(paths):
            flush_file(path)


def _sync_file_system(root: Path) -> bool:
    """False where the C library has no ``syncfs``. Raises OSError."""
    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is None:
        return False
    descriptor = os.open(root, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(root))
    finally:
        os.close(descriptor)
    return True
