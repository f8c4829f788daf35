"""Looking for a release without the agent's lock: with a copy of what was proved so far.

A look may take minutes, and an update or a rollback must not wait for it. So it works on a copy in
memory, and what it proved is put back under the lock, at once or not at all: where somebody else
has the lock, or has changed the metadata meanwhile, that one's counts.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from product.agent.errors import AgentError, BusyError
from product.agent.system.files import make_directories, read_bounded, write_atomic
from product.agent.system.lock import exclusive

# In the order in which the client keeps them. Another anchor begins another trust.
_NAMES = ("root.json", "anchor.json", "timestamp.json", "snapshot.json", "targets.json")
_MAX_BYTES = 8 * 1024 * 1024

Content = dict[str, bytes]


@contextmanager
def borrowed(store: str, run: str, lock: str) -> Iterator[str]:
    """A copy of the folder ``store`` below ``run``, put back in the end under the lock ``lock``.

    Raises AgentError where there can be no copy.
    """
    before = _read(store)
    copy = f"{run}/metadata.{os.getpid()}"
    try:
        _sweep(run)
        os.makedirs(copy, mode=0o700)
        for name, data in before.items():
            write_atomic(f"{copy}/{name}", data, mode=0o644)
    except OSError as error:
        raise AgentError(
            f"cannot copy the metadata to {copy}: {error.strerror}", hint="run this as root"
        ) from None
    try:
        try:
            yield copy
        finally:
            # What was proved before an error counts as well.
            _put_back(store, lock, before, _read(copy))
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def _put_back(store: str, lock: str, before: Content, after: Content) -> None:
    if after == before:
        return
    with suppress(BusyError), exclusive(lock):
        if _read(store) != before:
            return
        make_directories(store)
        if after.get("anchor.json") != before.get("anchor.json"):
            # See product.agent.trust.pin.ensure_anchor.
            for name in _NAMES[2:]:
                with suppress(FileNotFoundError):
                    os.unlink(f"{store}/{name}")
        kept = _read(store)
        for name in _NAMES:
            if name in after and after[name] != kept.get(name):
                write_atomic(f"{store}/{name}", after[name], mode=0o644)


def _read(folder: str) -> Content:
    """What is there and can be read: the rest is fetched and verified again anyway."""
    found = {}
    for name in _NAMES:
        with suppress(OSError, ValueError):
            found[name] = read_bounded(f"{folder}/{name}", _MAX_BYTES)
    return found


def _sweep(run: str) -> None:
    """Remove the copies of processes that were killed, and of one that had this one's number."""
    for name in os.listdir(run) if os.path.isdir(run) else []:
        kind, _, process = name.partition(".")
        if kind == "metadata" and process.isdecimal() and not _runs(int(process)):
            shutil.rmtree(f"{run}/{name}", ignore_errors=True)


def _runs(process: int) -> bool:
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
