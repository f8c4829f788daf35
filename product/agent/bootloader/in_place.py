"""How a boot loader's file is written: in one write in place, and an fsync.

A rename would be lost on GRUB, which reads no journal, and is several writes in no promised order
on a FAT; a truncated file makes a boot loader's own save fail.
"""

from __future__ import annotations

import os

from product.agent.system.files import make_directories, sync_directory


def overwrite(path: str, data: bytes) -> None:
    """Let the file ``path`` hold ``data``, and no more. Raises OSError."""
    created = not os.path.exists(path)
    if created:
        make_directories(os.path.dirname(path))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        written = os.pwrite(descriptor, data, 0)
        if written != len(data):
            raise OSError(28, f"only {written} of {len(data)} bytes were taken")
        os.fsync(descriptor)
        if os.fstat(descriptor).st_size > len(data):
            # Only a damaged file is longer; what counts in its front is already safe.
            os.ftruncate(descriptor, len(data))
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if created:
        sync_directory(os.path.dirname(path))
