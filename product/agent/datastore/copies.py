"""Copies of Kubernetes' datastore, one for each slot: ``/var/lib/kubesolo/update/datastore``.

``A/index.json`` (and ``B/``) names the directory beside it that holds the copy of the release in
that slot: ``version``, ``kubernetes``, ``taken_at`` (ISO 8601, UTC), ``directory``, ``size`` in
bytes without holes, and ``files`` (path, size, SHA-256). It is replaced in one step after the copy
is on the disk, so there is always the old copy or the new one; a directory that no index names is a
leftover.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from product.agent.bootloader.boot import SLOTS
from product.agent.datastore import tree
from product.agent.errors import AgentError
from product.agent.kubernetes.payload import Payload, parse_minor
from product.agent.node import Node
from product.agent.system.clock import timestamp
from product.agent.system.files import make_directories, read_bounded, sync_directory, write_atomic
from product.agent.system.lock import exclusive
from product.agent.system.paths import Paths

INDEX = "index.json"
MAX_BYTES = 4 * 1024 * 1024
# Kubernetes stands still for as long as the copy takes.
FREEZE_SECONDS = 30
# What Kubernetes needs to start (product.node.space), and some for what it writes then: a copy must
# not be what keeps it from starting.
HEADROOM = 128 * 1024 * 1024
KEPT_ASIDE = 2

Say = Callable[[str], None]


class DatastoreError(AgentError):
    """The datastore cannot be copied, or a copy cannot be used."""

    code = "datastore-unusable"


class Copy(NamedTuple):
    """What an index says of its copy; ``directory`` is an absolute path."""

    slot: str
    version: str
    kubernetes: str
    taken_at: str
    directory: str
    size: int
    files: tuple[tree.FileEntry, ...]

    @property
    def minor(self) -> tuple[int, int]:
        """Kubernetes' major and minor version."""
        return parse_minor(self.kubernetes)


def lock_path(paths: Paths) -> str:
    """Held by whoever copies the datastore or puts one back."""
    return f"{paths.run}/datastore.lock"


def save_copy(node: Node, payload: Payload, say: Say) -> Copy | None:
    """Copy the datastore for the slot that runs; None where there is none to copy.

    Raises DatastoreError, FreezeError; the copy that was there is kept then, unless its room was
    needed.
    """
    if node.boot.data != "persistent":
        say("datastore: not copied, for it lies in memory only")
        return None
    with exclusive(lock_path(node.paths), wait=True):
        home = f"{node.paths.datastore}/{node.boot.slot}"
        if not os.path.isdir(payload.datastore):
            say(f"datastore: {payload.datastore} does not exist yet, so there is nothing to copy")
            drop_copy(node.paths, node.boot.slot)
            return None
        try:
            return _save(node, payload, home, say)
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            raise DatastoreError(
                f"the datastore cannot be copied: {error.strerror or error}{where}",
                hint="without the copy a rollback may leave Kubernetes a datastore that it cannot "
                "read; activate --skip-datastore does without",
            ) from None
        finally:
            with suppress(OSError):
                _sweep(home)


def read_copy(paths: Paths, slot: str) -> Copy | None:
    """The copy of ``slot``; None where there is none. Raises DatastoreError for garbage."""
    home = f"{paths.datastore}/{slot}"
    try:
        document = json.loads(read_bounded(f"{home}/{INDEX}", MAX_BYTES).decode())
        directory = str(document["directory"])
        if "/" in directory or directory.startswith("."):
            raise ValueError(f"directory is {directory!r}")
        parse_minor(str(document["kubernetes"]))
        return Copy(
            slot,
            str(document["version"]),
            str(document["kubernetes"]),
            str(document["taken_at"]),
            f"{home}/{directory}",
            int(document["size"]),
            tuple(
                tree.FileEntry(str(f["path"]), int(f["size"]), str(f["sha256"]))
                for f in document["files"]
            ),
        )
    except FileNotFoundError:
        return None
    except OSError as error:
        problem = error.strerror or str(error)
    except (ValueError, TypeError, KeyError, RecursionError, AgentError) as error:
        problem = f"it is garbage ({error!r:.100})"
    raise DatastoreError(f"{home}/{INDEX} cannot be read: {problem}")


def find_copies(paths: Paths) -> list[Copy]:
    """All readable copies, the latest first."""
    found = []
    for slot in SLOTS:
        with suppress(DatastoreError):
            if copy := read_copy(paths, slot):
                found.append(copy)
    return sorted(found, key=lambda copy: copy.taken_at, reverse=True)


def drop_copy(paths: Paths, slot: str) -> None:
    """Forget the copy of ``slot``: first the index, so that none ever names a half of it."""
    home = f"{paths.datastore}/{slot}"
    with suppress(FileNotFoundError):
        os.unlink(f"{home}/{INDEX}")
        sync_directory(home)
    with suppress(FileNotFoundError):
        _sweep(home)


def forget_copy(node: Node) -> None:
    """Without a copy of the slot that runs, nothing is put back when it is returned to."""
    with exclusive(lock_path(node.paths), wait=True):
        drop_copy(node.paths, node.boot.slot)


def asides(paths: Paths) -> list[str]:
    """Directories of what a restore replaced, the oldest first."""
    try:
        names = os.listdir(paths.datastore)
    except OSError:
        return []
    return sorted(f"{paths.datastore}/{name}" for name in names if name.startswith("aside-"))


def make_room(paths: Paths, need: int, say: Say, slot: str | None = None) -> None:
    """See that ``need`` bytes can be written, if need be without the copy of ``slot`` and without
    all but the latest two datastores that were put aside. Raises DatastoreError."""
    if _free(paths) >= need:
        return
    for old in asides(paths)[:-KEPT_ASIDE]:
        say(f"datastore: {old} is removed to make room")
        tree.remove(old)
    if _free(paths) < need and slot is not None and os.path.exists(f"{paths.datastore}/{slot}"):
        # It is older than what runs now, and serves only should that be damaged.
        say(f"datastore: the previous copy of slot {slot} is removed to make room")
        drop_copy(paths, slot)
    free = _free(paths)
    if free < need:
        raise DatastoreError(
            f"a copy of the datastore takes {need} bytes, and {free} are free",
            hint="make room on the data partition",
            code="no-space",
        )


def _save(node: Node, payload: Payload, home: str, say: Say) -> Copy:
    from product.agent.datastore.freeze import find_writers, frozen, service_pid

    make_directories(home)
    _sweep(home)
    size = tree.content(payload.datastore)
    make_room(node.paths, size + size // 10 + HEADROOM, say, node.boot.slot)
    name = f"copy-{os.urandom(4).hex()}"
    target = f"{home}/{name}"
    tree.warm(payload.datastore)
    writers = set(find_writers(payload.datastore))
    service = service_pid(f"{node.paths.services}/{payload.writer}")
    pids = sorted(writers | ({service} if service else set()))
    say(f"datastore: {payload.writer} stands still ({', '.join(map(str, pids)) or 'it is down'})")
    begun, now = node.clock.monotonic(), node.clock.now()
    with frozen(pids, FREEZE_SECONDS):
        tree.copy(payload.datastore, target)
        late = set(find_writers(payload.datastore)) - set(pids)
    if late:
        # Whoever sees whether a damaged datastore opens, say; the copy may be torn.
        raise DatastoreError(f"process {min(late)} began to write the datastore as it was copied")
    stood = node.clock.monotonic() - begun
    say(f"datastore: {payload.writer} goes on after {stood:.1f} s")
    files = tree.seal(target)
    size = tree.content(target)
    version, kubernetes = node.release.version, payload.kubernetes
    copy = Copy(node.boot.slot, version, kubernetes, timestamp(now), target, size, files)
    document = {
        "version": version,
        "kubernetes": kubernetes,
        "taken_at": copy.taken_at,
        "directory": name,
        "size": size,
        "files": [entry._asdict() for entry in files],
    }
    write_atomic(f"{home}/{INDEX}", (json.dumps(document, indent=2) + "\n").encode())
    say(f"datastore: {len(files)} files, {size} bytes, kept for slot {node.boot.slot}")
    return copy


def _sweep(home: str) -> None:
    """Remove what no index names."""
    try:
        with open(f"{home}/{INDEX}", "rb") as file:
            keep = str(json.loads(file.read(MAX_BYTES))["directory"])
    except FileNotFoundError:
        keep = ""
    except (OSError, ValueError, TypeError, KeyError):
        # What a damaged index named, nobody knows.
        return
    for name in os.listdir(home):
        if name not in (keep, INDEX):
            tree.remove(f"{home}/{name}")


def _free(paths: Paths) -> int:
    make_directories(paths.datastore)
    status = os.statvfs(paths.datastore)
    return status.f_bavail * status.f_frsize
