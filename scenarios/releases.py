"""Signed releases for scenarios: good ones, and ones broken the way real ones have been.

A broken release differs from a good one by an overlay under ``fixtures/overlays``; everything else
is what ships. Slots are built once and cached. Repositories are signed anew in every run, because
their metadata expires, but with this host's keys and as of the week's beginning: those of one week
are alike to the byte, so that a node that was prepared with one and kept as a snapshot knows the
next. What expires first has three weeks left at the week's end.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from tuf.api._payload import Targets

from product.deltas import Delta, parse_deltas
from product.disk.loader import IN_ROOT
from product.image.build import Builder, Slot
from product.manifest import KERNEL_NAME, MANIFEST_NAME, ROOT_NAME, Artifact
from product.release.deltas import DeltaOptions, attach
from product.release.keys import KeyDirectory
from product.release.repository import Overrides, Repository, utc_now
from product.release.state import read_state
from product.terms import Terms

OVERLAYS = Path(__file__).resolve().parents[1] / "fixtures" / "overlays"

FACTORY = "0.1.0"
GOOD = "0.2.0"
BAD = "0.2.1"
NEWER = "0.3.0"


@dataclass(frozen=True, slots=True)
class Release:
    """One release alone in a repository of its own; ``pubkey`` is the PEM that a node pins."""

    version: str
    repository: Path
    pubkey: bytes
    slot: Slot

    @property
    def delta(self) -> Delta:
        """The delta to its root that the repository offers; there must be one."""
        (target,) = read_state(self.repository).targets.targets.values()
        (delta,) = parse_deltas(target.custom)
        return delta

    @property
    def digest(self) -> str:
        """64 hex digits: all that a node learns of it."""
        digest = hashlib.sha256(self.pubkey)
        for file in sorted((self.repository / "metadata").iterdir()):
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
        return digest.hexdigest()


def host_keys(folder: Path) -> KeyDirectory:
    """The keys in ``folder``, made by whoever comes first."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        keys = folder / "keys"
        if not keys.exists():
            partial = folder / "keys.part"
            shutil.rmtree(partial, ignore_errors=True)
            KeyDirectory.generate(partial).path.rename(keys)
    return KeyDirectory(keys)


def monday() -> datetime:
    """The beginning of this week in UTC."""
    now = utc_now()
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return day - timedelta(days=now.weekday())


class Releases:
    """Releases for one architecture, signed by one set of keys."""

    def __init__(self, builder: Builder, folder: Path, keys: KeyDirectory | None = None) -> None:
        """``folder`` gets the repositories, and keys where none are given."""
        self._builder = builder
        self._folder = folder
        self._made: dict[str, Release] = {}
        self._keys = keys or KeyDirectory.generate(folder / "keys")

    @property
    def good(self) -> Release:
        """0.2.0, which works."""
        return self._release("good", GOOD)

    @property
    def newer(self) -> Release:
        """0.3.0, which works."""
        return self._release("newer", NEWER)

    @property
    def older(self) -> Release:
        """0.0.9: older than the factory's."""
        return self._release("older", "0.0.9")

    @property
    def panicking_init(self) -> Release:
        """0.2.1, whose init ends at once."""
        return self._release("panicking-init", BAD, overlay="panicking-init")

    @property
    def hanging_init(self) -> Release:
        """0.2.1, whose init hangs."""
        return self._release("hanging-init", BAD, overlay="hanging-init")

    @property
    def read_only_data(self) -> Release:
        """0.2.1, which boots and leaves the data partition read-only."""
        return self._release("read-only-data", BAD, overlay="read-only-data")

    def broken(self, overlay: str) -> Release:
        """0.2.1 with ``fixtures/overlays/<overlay>`` laid over it."""
        return self._release(overlay, BAD, overlay=overlay)

    def with_overlay(self, name: str, version: str, overlay: Path) -> Release:
        """``version`` with a scenario's own overlay laid over it; ``name`` stands for that."""
        if name not in self._made:
            self._made[name] = self.sign(name, self._builder.slot(version, (overlay,)))
        return self._made[name]

    def with_file(self, name: str, version: str, file: str, content: bytes) -> Release:
        """``version``, signed as usual, with other content of one of its slot's files."""
        built = self.slot(version)
        folder = self._folder / f"{name}-slot"
        shutil.copytree(built.folder, folder)
        (folder / file).write_bytes(content)
        changed = Artifact(file, len(content), hashlib.sha256(content).hexdigest())
        artifacts = tuple(changed if a.name == file else a for a in built.manifest.artifacts)
        manifest = built.manifest._replace(artifacts=artifacts)
        (folder / MANIFEST_NAME).write_bytes(manifest.to_bytes())
        return self.sign(name, Slot(folder, version, built.arch, folder / KERNEL_NAME))

    @property
    def loader(self) -> Path:
        """The folder of the boot loader that every release brings (product.disk.loader)."""
        return self._builder.loader() / IN_ROOT

    def slot(self, version: str, overlay: str | None = None) -> Slot:
        """The built files of a release."""
        return self._builder.slot(version, (OVERLAYS / overlay,) if overlay else ())

    def sign(
        self,
        name: str,
        slot: Slot,
        *,
        keys: KeyDirectory | None = None,
        channel: str = "stable",
        overrides: Overrides | None = None,
        min_compatible_version: str | None = None,
        clock: Callable[[], datetime] = monday,
        terms: Terms | None = None,
    ) -> Release:
        """Publish ``slot`` into a new repository; whatever is not given is as usual."""
        signers = keys or self._keys
        repository = Repository.create(self._folder / name, signers, clock=clock)
        repository.publish(
            slot.folder,
            channel=channel,
            notes=f"scenario {name}",
            overrides=overrides,
            min_compatible_version=min_compatible_version,
            terms=terms,
            allow_drift=True,
        )
        # The node pins the usual key even where another one signs.
        pubkey = self._keys.public_pem("root")
        return Release(slot.version, repository.directory, pubkey, slot)

    def publish_next(
        self, release: Release, slot: Slot, clock: Callable[[], datetime] = monday
    ) -> Release:
        """Replace the release of a repository by another, as a publisher does."""
        repository = Repository.open(release.repository, self._keys, clock=clock)
        repository.publish(slot.folder, channel="stable", notes="the next one", allow_drift=True)
        return Release(slot.version, release.repository, release.pubkey, slot)

    def with_delta(self, name: str, change: Callable[[Delta, int], bytes] | None = None) -> Release:
        """0.2.0, which works, with a delta from the factory's root.

        ``change`` makes other bytes for it, which are then signed: of the delta, and the size of
        the root that it starts from.
        """
        factory = self.slot(FACTORY)
        first = self.sign(name, factory)
        repository = Repository.open(first.repository, self._keys, clock=monday)
        slot = self.slot(GOOD)
        repository.publish(
            slot.folder, channel="stable", allow_drift=True, deltas=DeltaOptions(releases=1)
        )
        release = Release(slot.version, first.repository, first.pubkey, slot)
        if change is not None:
            data = change(release.delta, factory.manifest.artifact(ROOT_NAME).size)
            sha256 = hashlib.sha256(data).hexdigest()
            (release.repository / "artifacts" / sha256).write_bytes(data)
            changed = release.delta._replace(size=len(data), sha256=sha256)

            def sign_it(targets: Targets) -> None:
                (target,) = targets.targets.values()
                attach(target, [changed])

            repository.edit(sign_it)
        return release

    def strangers_keys(self) -> KeyDirectory:
        """Keys that no node pins."""
        return KeyDirectory.generate(self._folder / "stranger")

    def _release(self, name: str, version: str, overlay: str | None = None) -> Release:
        if name not in self._made:
            self._made[name] = self.sign(name, self.slot(version, overlay))
        return self._made[name]
