"""The lock that lets one agent act.

It is flock(2) on a file in /run: the kernel drops it with its holder, however that one ends, so a
lock is never stale. Who is urgent locks a second file while it waits; a holder that waits for
somebody else, as for a server, looks at that one with ``give_way`` and ends.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from product.agent.errors import AgentError, BusyError

# How long an urgent one waits for a holder that cannot end at once, as one that writes: seconds.
URGENT_SECONDS = 60.0
_LOOK = 0.05


class GaveWayError(AgentError):
    """Somebody urgent wants the lock."""

    code = "gave-way"


@contextmanager
def exclusive(path: str, *, wait: bool = False, urgent: bool = False) -> Iterator[None]:
    """Hold the lock at ``path``. Where another process holds it, take a turn with ``wait``; with
    ``urgent`` tell the holder to give way, and wait ``URGENT_SECONDS``; else raise BusyError."""
    descriptor = _open(path)
    try:
        if not _try_lock(descriptor):
            if wait:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            elif not (urgent and _claim(path, descriptor)):
                holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
                raise BusyError(
                    f"another kubesolo-update is at work (process {holder or 'unknown'})",
                    hint="wait for it to finish; kubesolo-update status shows what it does",
                )
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def give_way(path: str) -> None:
    """Raise GaveWayError where somebody urgent waits for the lock at ``path``."""
    try:
        claim = os.open(_claim_path(path), os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not _try_lock(claim, fcntl.LOCK_SH):
            raise GaveWayError(
                "the update was ended, because a rollback goes before it",
                hint="kubesolo-update apply goes on with what was fetched",
            )
    finally:
        os.close(claim)


def _claim(path: str, descriptor: int) -> bool:
    """Whether the holder let go in time."""
    end = time.monotonic() + URGENT_SECONDS
    claim = _open(_claim_path(path))
    try:
        claimed = False
        while time.monotonic() < end:
            # Looks of a holder, and others that are urgent, have it for a moment.
            claimed = claimed or _try_lock(claim)
            if _try_lock(descriptor):
                return True
            time.sleep(_LOOK)
        return False
    finally:
        os.close(claim)


def _claim_path(path: str) -> str:
    return f"{path}.urgent"


def _open(path: str) -> int:
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise AgentError(
            f"cannot open the lock {path}: {error.strerror}", hint="run this as root"
        ) from None


def _try_lock(descriptor: int, kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
