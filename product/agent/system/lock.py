"""The lock that lets one agent act.

It is flock(2) on a file in /run: the kernel drops it with its holder, however that one ends, so a
lock is never stale.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from product.agent.errors import AgentError, BusyError


@contextmanager
def exclusive(path: str, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock at ``path``. Where another process holds it, take a turn with ``wait``, else
    raise BusyError at once."""
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise AgentError(
            f"cannot open the lock {path}: {error.strerror}", hint="run this as root"
        ) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise BusyError(
                f"another kubesolo-update is at work (process {holder})",
                hint="wait for it to finish; kubesolo-update status shows what it does",
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
