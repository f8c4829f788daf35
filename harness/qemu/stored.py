"""What the harness keeps in its cache, by kind, and what of it can go.

========== =====================================================================================
state      a snapshot that scenarios fork from (harness.qemu.snapshots)
run        a run directory: of a machine that runs, or what a host without power left
measured   which accelerator was chosen, and how slow the host was
other      everything else, such as the keys of releases; it is never removed
========== =====================================================================================
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


class Kind(enum.StrEnum):
    """What a part of the cache is."""

    STATE = "state"
    RUN = "run"
    MEASURED = "measured"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Entry:
    """One part of the cache; times in seconds since the epoch, ``size`` in bytes on the disk.

    ``name`` is what a state was prepared as, else the file's own. ``below`` is the state that this
    one lies over.
    """

    kind: Kind
    path: Path
    name: str
    size: int
    made: float
    used: float
    in_use: bool
    below: str | None = None


def entries(cache: Path) -> list[Entry]:
    """What lies in the harness's cache, the largest first."""
    found = [*_states(cache / "states"), *_runs(cache / "runs"), *_others(cache)]
    return sorted(found, key=lambda entry: -entry.size)


def prune(cache: Path, older_than: float, *, dry_run: bool = False) -> list[Entry]:
    """Remove what nobody uses and nobody has used for ``older_than`` seconds; what went.

    With ``dry_run`` nothing goes. A state that another one lies over stays for as long as that one.
    """
    before = time.time() - older_than
    old = [e for e in entries(cache) if e.used < before and e.kind is not Kind.OTHER]
    gone = []
    for entry in old:
        with _held(cache, entry) as held:
            if not held:
                continue
            if not dry_run:
                _remove(entry)
            gone.append(entry)
    return gone


def _remove(entry: Entry) -> None:
    if entry.path.is_dir():
        shutil.rmtree(entry.path, ignore_errors=True)
    else:
        entry.path.unlink(missing_ok=True)


@contextlib.contextmanager
def _held(cache: Path, entry: Entry) -> Iterator[bool]:
    """Whether nobody uses ``entry``, nor what lies over it, and nobody can begin to in here."""
    with contextlib.ExitStack() as locks:
        names = [entry.path.name]
        if entry.kind is Kind.STATE:
            names = [path.stem for path in _over(cache / "states", entry.path.stem)]
        for name in names:
            path = entry.path
            if entry.kind is Kind.STATE:
                path = cache / "states" / f"{name}.lock"
            if entry.kind is not Kind.MEASURED and not _lock(path, locks):
                yield False
                return
        yield True


def _over(root: Path, state: str) -> list[Path]:
    """A state and all that lie over it, directly or not."""
    below = {path: _meta(path).get("below") for path in root.iterdir() if path.is_dir()}
    found = [root / state]
    for lower in found:
        for path, under in below.items():
            if isinstance(under, dict) and under.get("state") == lower.name and path not in found:
                found.append(path)
    return found


def _lock(path: Path, locks: contextlib.ExitStack) -> bool:
    """Lock a file or a folder until ``locks`` ends, unless somebody has it."""
    try:
        if path.suffix == ".lock":
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        else:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    locks.callback(os.close, descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_free(path: Path) -> bool:
    """Whether nobody has locked a file or a folder of the cache."""
    with contextlib.ExitStack() as locks:
        return _lock(path, locks)


def _states(root: Path) -> Iterator[Entry]:
    if not root.is_dir():
        return
    folders = sorted(path for path in root.iterdir() if path.is_dir())
    used = {path: not is_free(root / f"{path.stem}.lock") for path in folders}
    # What is used uses all that it lies over.
    for path in folders:
        lower, seen = path, set[Path]()
        while used.get(path) and lower not in seen:
            seen.add(lower)
            used[lower] = True
            below = _meta(lower).get("below")
            if not isinstance(below, dict):
                break
            lower = root / str(below.get("state"))
    for path in folders:
        meta = _meta(path)
        name = str(meta.get("name") or ("unfinished" if path.suffix == ".part" else "unreadable"))
        key = meta.get("key")
        if isinstance(key, dict) and key.get("arch"):
            name += f" ({key['arch']}, {key.get('memory_mib')} MiB)"
        below = meta.get("below")
        lower_name = str(below["state"]) if isinstance(below, dict) else None
        made = _time(path / "state.json") or _time(path)
        yield Entry(
            Kind.STATE, path, name, _size(path), made, _time(path), used[path], lower_name
        )  # fmt: skip


def _runs(root: Path) -> Iterator[Entry]:
    for path in sorted(root.glob("machine-*")):
        used = not is_free(path)
        yield Entry(Kind.RUN, path, path.name, _size(path), _time(path), _time(path), used)


def _others(cache: Path) -> Iterator[Entry]:
    for path in sorted(cache.iterdir() if cache.is_dir() else ()):
        if path.name in ("states", "runs"):
            continue
        measured = path.name.startswith("accelerator-") and path.suffix == ".json"
        kind = Kind.MEASURED if measured else Kind.OTHER
        time_ = _time(path)
        yield Entry(kind, path, path.name, _size(path), time_, time_, in_use=False)


def _meta(folder: Path) -> dict[str, object]:
    try:
        meta = json.loads((folder / "state.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return meta if isinstance(meta, dict) else {}


def _time(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _size(path: Path) -> int:
    """Bytes that a file or a folder takes; files with holes take less than they are long."""
    total = 0
    for file in (path, *(path.rglob("*") if path.is_dir() else ())):
        with contextlib.suppress(OSError):
            total += file.lstat().st_blocks * 512
    return total
