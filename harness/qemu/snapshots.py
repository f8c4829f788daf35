"""Booted nodes kept as snapshots, so that a scenario starts from one instead of from a boot.

A state is a directory of read-only bases: the memory and devices of a paused machine, the overlays
of its disk and of its firmware's variables, and what proves that a machine was restored from it.
Every fork writes into overlays of its own. A state that was made from a fork lies over the other
state's disk, and is good for as long as that one is the same.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import shlex
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from harness.errors import StateError
from harness.journal.journal import Source
from harness.qemu import argv
from harness.qemu.arch import host_processor
from harness.qemu.argv import Storage, Streams
from harness.qemu.machine import Host, Machine, Saved
from harness.qemu.spec import MachineSpec

# Part of every key: raise it when snapshots are made or restored otherwise.
VERSION = 2

# In the guest's memory alone, so that it cannot survive a reboot.
_NONCE_PATH = "/run/harness-nonce"

# What scenarios are run with is made anew each week. A disk short of room, in bytes, holds those of
# the last day alone: all snapshots of one commit take some 20 GB.
_UNUSED_DAYS, _UNUSED_DAYS_SHORT = 8, 1
ROOM = 24 << 30
_REPLY = 30.0


@dataclass(frozen=True, slots=True)
class Key:
    """What a snapshot depends on: image content, machine, QEMU and its command line, how it was
    prepared, and the host's ``processor`` where the guest sees that one."""

    image: str
    spec: MachineSpec
    command: str
    name: str
    inputs: str = ""
    processor: str = ""

    @classmethod
    def on(cls, host: Host, spec: MachineSpec, image: str, name: str, inputs: str) -> Key:
        """The key on this host of what is prepared as ``name`` from ``inputs``."""
        spec = spec.handing(host.profile)
        # QEMU lies in a folder that is named by its packages' digests.
        storage = Storage(Path("disk"), Path("variables"), spec.seed)
        words = argv.build(spec, host.tools, host.accelerator, storage, Streams(3, 4, 5))
        command = shlex.join(words)
        if spec.seed is not None:
            command = command.replace(argv.escaped(spec.seed), "seed")
        processor = host_processor() if host.accelerator == "kvm" else ""
        return cls(image, spec, command, name, inputs, processor)

    @property
    def digest(self) -> str:
        """32 hex digits."""
        # No file's path is part of it: its content is.
        files = {"image", "kernel", "initrd", "seed", "cdrom", "device_tree", "variables"}
        if self.spec.kernel is None:
            spec = self.spec.model_dump(mode="json", exclude={*files, "append"})
        else:
            spec = self.spec.model_dump(mode="json", exclude=files)
            spec["kernel"] = _content(self.spec.kernel)
            spec["initrd"] = _content(self.spec.initrd)
        if self.spec.cdrom is not None:
            spec["cdrom"] = _content(self.spec.cdrom)
        if self.spec.seed is not None:
            spec["seed"] = _content(self.spec.seed)
        if self.spec.variables is not None:
            spec["variables"] = _content(self.spec.variables)
        parts = [VERSION, self.image, spec, self.command, self.name, self.inputs]
        if self.processor:
            parts.append(self.processor)
        text = json.dumps(parts, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class SavedState:
    """A snapshot on disk. ``facts`` are what its maker knew, such as the agent's ready line."""

    saved: Saved
    boot_id: str
    nonce: str
    facts: dict[str, str]


class States:
    """The store below ``root``, shared by all workers."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self._root = root
        self._failed: dict[str, str] = {}  # by key, why making it failed in this process
        self._held: Counter[str] = Counter()  # by key, how many scopes of this process use it

    @contextlib.contextmanager
    def obtain(
        self, key: Key, make: Callable[[], tuple[Machine, dict[str, str]]]
    ) -> Iterator[SavedState]:
        """The state for ``key``, made first where there is none; it stays while in this scope.

        ``make`` returns a running machine, which becomes the state, and facts. One worker makes a
        state; the others wait for it. A make that fails leaves nothing and raises its error; in
        this process it is not tried again, and whoever wants the state gets StateError at once.
        """
        folder = self._root / key.digest
        with (self._root / f"{key.digest}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            state = self._load(folder, key)
            if state is None:
                # Not an upgrade of the shared lock: two workers would wait for each other.
                fcntl.flock(lock, fcntl.LOCK_UN)
                state = self._make_first(folder, key, make, lock)
            self._touch(folder)
            self._held[key.digest] += 1
            try:
                yield state
            finally:
                self._held[key.digest] -= 1

    def discard(self, key: Key, state: SavedState) -> None:
        """Let nobody begin from ``state`` any more, nor from what lies over it.

        Those who have begun from it go on. To be called within the scope that ``obtain`` gave it
        in: the next one makes the state anew once the others' scopes have ended.
        """
        folder = self._root / key.digest
        # Another one may be there already only if its maker waited for this scope's end.
        if self._meta(folder.name).get("nonce") == state.nonce:
            (folder / "state.json").unlink(missing_ok=True)

    def _make_first(
        self,
        folder: Path,
        key: Key,
        make: Callable[[], tuple[Machine, dict[str, str]]],
        lock: TextIO,
    ) -> SavedState:
        """The state that was not there, with ``lock`` held as by all who use it.

        Who wants to make it waits for who makes it, and not for the end of what that one then does
        with it.
        """
        if self._held[key.digest]:
            raise StateError(
                f"state {key.name} cannot be made anew: another node of this scenario runs on what "
                "was discarded",
                hint="run it again: the state is made first then",
            )
        with (self._root / f"{key.digest}.make").open("a") as makers:
            fcntl.flock(makers, fcntl.LOCK_EX)
            fcntl.flock(lock, fcntl.LOCK_SH)
            state = self._load(folder, key)
            if state is None:
                # Those who use what is in its place have to end first.
                fcntl.flock(lock, fcntl.LOCK_UN)
                fcntl.flock(lock, fcntl.LOCK_EX)
                state = self._try(folder, key, make)
                self._touch(folder)  # The next call lets go for a moment: look used.
                fcntl.flock(lock, fcntl.LOCK_SH)
            return state

    def _load(self, folder: Path, key: Key) -> SavedState | None:
        try:
            meta = json.loads((folder / "state.json").read_text())
        except (OSError, ValueError):
            return None
        image = key.spec.image
        if meta["image"] != _resolved(image) or (image is not None and not image.exists()):
            return None  # Its disk lies over an image at another place.
        below = meta.get("below")
        if below is not None and self._nonce(below["state"]) != below["nonce"]:
            return None  # Its disk lies over a state that was made anew since.
        variables = folder / "variables.qcow2"
        disk = None if image is None else folder / "disk.qcow2"
        seed = folder / "seed.img"
        storage = Storage(
            disk,
            variables if variables.exists() else None,
            seed if seed.exists() else None,
        )
        saved = Saved(folder / "memory", storage)
        return SavedState(saved, meta["boot_id"], meta["nonce"], meta["facts"])

    def _meta(self, state: str) -> dict[str, Any]:
        """What is written beside a state; empty where there is none that can be read."""
        try:
            meta = json.loads((self._root / state / "state.json").read_text())
        except (OSError, ValueError):
            return {}
        return meta if isinstance(meta, dict) else {}

    def _nonce(self, state: str) -> str | None:
        """The state's, if all that it lies over is still what it was."""
        meta = self._meta(state)
        below = meta.get("below")
        if below is not None and self._nonce(below["state"]) != below["nonce"]:
            return None
        return meta.get("nonce")

    def _touch(self, folder: Path) -> None:
        """Make a state and all that it lies over look used."""
        os.utime(folder)
        below = self._meta(folder.name).get("below")
        if below is not None:
            self._touch(self._root / below["state"])

    def _try(
        self, folder: Path, key: Key, make: Callable[[], tuple[Machine, dict[str, str]]]
    ) -> SavedState:
        if (reason := self._failed.get(key.digest)) is not None:
            raise StateError(f"state {key.name} could not be made before: {reason}")
        try:
            return self._make(folder, key, make)
        except Exception as error:
            self._failed[key.digest] = str(error).partition("\n")[0]
            raise

    def _make(
        self, folder: Path, key: Key, make: Callable[[], tuple[Machine, dict[str, str]]]
    ) -> SavedState:
        self._evict()
        shutil.rmtree(folder, ignore_errors=True)
        partial = self._root / f"{key.digest}.part"
        shutil.rmtree(partial, ignore_errors=True)
        machine, facts = make()
        partial.mkdir()
        below = self._below(machine.base)
        try:
            nonce = secrets.token_hex(16)
            deadline = machine.deadline(_REPLY)
            machine.channel.put(nonce.encode(), _NONCE_PATH, deadline)
            boot_id = str(machine.channel.ping(deadline)["boot_id"])
            machine.save(partial)
        except BaseException:
            machine.close()
            shutil.rmtree(partial, ignore_errors=True)
            raise
        machine.close()
        meta = {
            "key": key.spec.model_dump(mode="json"),
            "name": key.name,
            "image": _resolved(key.spec.image),
            "boot_id": boot_id,
            "nonce": nonce,
            "below": below,
            "facts": facts,
        }
        (partial / "state.json").write_text(json.dumps(meta, indent=1) + "\n")
        # A name that outlives the host's power cut must not name what did not.
        for file in (*partial.iterdir(), partial):
            _sync(file)
        partial.rename(folder)
        _sync(self._root)
        made = self._load(folder, key)
        if made is None:
            raise StateError(f"the state just written to {folder} cannot be read")
        return made

    def _below(self, base: Storage | None) -> dict[str, str | None] | None:
        """The state of this store whose files ``base`` are."""
        files = [] if base is None else [file for file in (base.disk, base.variables) if file]
        if not files or files[0].parent.parent != self._root:
            return None
        state = files[0].parent.name
        return {"state": state, "nonce": self._nonce(state)}

    def _evict(self) -> None:
        """Remove the states that nobody uses now and nobody has used for eight days, or for one
        where the disk has less than ``ROOM``, the longest unused first; and halves."""
        now = time.time()
        ages: list[tuple[float, Path]] = []
        for folder in self._root.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if folder.suffix == ".part":
                    # Whoever makes one holds its lock: one without is what a killed maker left.
                    self._remove(folder)
                elif folder.is_dir():
                    ages.append(((now - folder.stat().st_mtime) / 86400, folder))
        for days, folder in sorted(ages, reverse=True):
            short = shutil.disk_usage(self._root).free < ROOM
            if days > (_UNUSED_DAYS_SHORT if short else _UNUSED_DAYS):
                self._remove(folder)

    def _remove(self, folder: Path) -> None:
        """Remove a state or half of one, unless somebody uses or makes it."""
        path = self._root / f"{folder.stem}.lock"
        with path.open("a") as lock, contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)


def _sync(path: Path) -> None:
    """Have a file or a directory on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _content(file: Path | None) -> str | None:
    return None if file is None else hashlib.sha256(file.read_bytes()).hexdigest()


def _resolved(image: Path | None) -> str | None:
    return None if image is None else str(image.resolve())


def fork(state: SavedState, spec: MachineSpec, host: Host, artefacts: Path, name: str) -> Machine:
    """A running machine that goes on from ``state``, with the present time and its own entropy.

    Raises StateError where the guest is not the one that was saved: it rebooted, or answers from
    another boot.
    """
    machine = Machine(spec, host, artefacts, name=name, base=state.saved.storage)
    try:
        machine.power_on(state.saved)
        deadline = machine.deadline(_REPLY)
        boot_id = machine.channel.ping(deadline).get("boot_id")
        if boot_id != state.boot_id:
            raise StateError(f"{name} answers from boot {boot_id}, saved was {state.boot_id}")
        machine.channel.resync(deadline)
        nonce = machine.channel.get(_NONCE_PATH, deadline).decode(errors="replace")
        if nonce != state.nonce:
            raise StateError(f"{name} was not restored: its memory holds {nonce!r}")
        machine.journal.append(Source.HARNESS, "note", "restored from a snapshot, proven by nonce")
    except BaseException:
        machine.close()
        raise
    return machine
