"""The packages that a build takes: the locked ones, or present ones where those have vanished.

A superseded package vanishes from every mirror after a while. Where drift is allowed, as ``demo``
and ``tests`` do, a build goes on with the archive's present version of exactly the packages that no
place has any longer, and of those that cannot stand beside a present version. What is built then
says so in its manifest. Elsewhere a vanished package is an error.

What was decided holds for a day for all processes of one cache, so that all of them build alike:
``drift/<lock>-<digest>.json`` below the cache's root.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from product.image import progress
from product.image.cache import Cache, digest_of
from product.image.dependencies import Need, needs, unmet
from product.image.errors import DownloadError, LockError, VanishedError
from product.image.locks import RELOCK_COMMAND, Lock, Package
from product.image.mirror import DEBIAN_VARIABLE, find_mirrors
from product.image.packages import fetch
from product.image.recipe import Arch, Recipe
from product.image.relock import refuse_older, resolve

VARIABLE = "KUBESOLO_ALLOW_DRIFT"
# After so long the locked packages are looked for again.
RECORD_SECONDS = 86400


class Settled(NamedTuple):
    """The packages to build with; ``drift`` says in one line each which are not the locked ones."""

    lock: Lock
    drift: tuple[str, ...] = ()


class _Record(BaseModel):
    """What was decided for one lock; ``places`` are the mirrors and snapshot archive asked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    places: str
    drift: tuple[str, ...]
    lock: Lock


# What this process has decided, so that it says so once and does not change its mind.
_decided: dict[str, Settled] = {}


def allowed() -> bool:
    """Whether this process may take present versions of vanished packages."""
    return os.environ.get(VARIABLE, "") == "1"


@contextlib.contextmanager
def allowing(choice: bool) -> Iterator[None]:
    """Decide it for a while, for children too, whatever the environment says."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = "1" if choice else "0"
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before


def settle(recipe: Recipe, arch: Arch, cache: Cache | None = None) -> Settled:
    """The packages of ``recipe`` for ``arch``.

    Unless drift is allowed, these are the locked ones, and nothing is asked for. Else all are
    brought into the cache (the user's if None is given). Raises LockError, DownloadError.
    """
    path = recipe.lock_path(arch)
    lock = Lock.load(path)
    lock.check_request(recipe.request(arch), path)
    if not allowed():
        return Settled(lock)
    name = f"{path.stem}-{hashlib.sha256(lock.dump().encode()).hexdigest()[:32]}"
    cache = cache or Cache()
    places = _places()
    key = digest_of(name, places)
    if key not in _decided:
        with cache.lock(f"drift-{name}"):
            record = cache.root / "drift" / f"{name}.json"
            _decided[key] = settled = _recorded(record, places, cache) or _settle(
                recipe, arch, lock, cache
            )
            if settled.drift:
                record.parent.mkdir(exist_ok=True)
                whole = _Record(places=places, drift=settled.drift, lock=settled.lock)
                _write(record, whole)
            else:
                record.unlink(missing_ok=True)
        for line in settled.drift:
            progress.note(f"not as locked: {line}")
    return _decided[key]


def recorded(cache: Cache) -> list[str]:
    """What drifts on this machine, one line a package, as decided within the last day."""
    found: set[str] = set()
    for path in cache.root.glob("drift/*.json"):
        record = _read(path)
        if record is not None and record.places == _places():
            found.update(record.drift)
    return sorted(found)


def _places() -> str:
    try:
        return " ".join(place or "-" for place in find_mirrors())
    except DownloadError:
        return ""  # Who needs one is told when something must be fetched.


def _read(path: Path) -> _Record | None:
    try:
        if time.time() - path.stat().st_mtime < RECORD_SECONDS:
            return _Record.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        pass
    return None


def _write(path: Path, record: _Record) -> None:
    """Keep when it was first written: the day counts from there."""
    if _read(path) == record:
        return
    partial = path.with_suffix(".part")
    partial.write_text(record.model_dump_json())
    partial.replace(path)


def _recorded(path: Path, places: str, cache: Cache) -> Settled | None:
    """What was decided within the last day, if it still can be had."""
    record = _read(path)
    if record is None or record.places != places:
        return None
    try:
        fetch(record.lock.packages, cache)
    except VanishedError:
        return None
    return Settled(record.lock, record.drift)


def _settle(recipe: Recipe, arch: Arch, lock: Lock, cache: Cache) -> Settled:
    try:
        fetch(lock.packages, cache)
        return Settled(lock)
    except VanishedError as error:
        vanished = error
    path = recipe.lock_path(arch)
    with progress.step(f"resolve {len(vanished.packages)} vanished packages of {path.name}"):
        mirrors = find_mirrors()
        try:
            present = resolve(recipe, arch, cache, mirrors)
        except LockError as error:
            raise LockError(
                f"{vanished.message}; nor can present versions be resolved: {error.message}",
                hint=error.hint or vanished.hint,
            ) from None
        chosen = _Choice(recipe, arch, lock, present, vanished)
        for package in vanished.packages:
            chosen.take_present(package.key)
        while True:
            files = fetch(chosen.packages, cache, mirrors)
            lacking = chosen.lacking(files)
            if lacking is None:
                break
            chosen.resolve(lacking)
    return Settled(lock.model_copy(update={"packages": chosen.packages}), chosen.lines)


class _Choice:
    """Which packages are taken in the archive's present version."""

    def __init__(
        self, recipe: Recipe, arch: Arch, lock: Lock, present: Lock, vanished: VanishedError
    ) -> None:
        self._recipe = recipe
        self._path = recipe.lock_path(arch)
        roots = recipe.packages.root + recipe.packages.of(arch).root
        self._excluded = frozenset(recipe.packages.exclude) - frozenset(roots)
        self._locked = {package.key: package for package in lock.packages}
        self._present = {package.key: package for package in present.packages}
        self._taken: dict[str, Package] = {}
        self._vanished = vanished

    @property
    def packages(self) -> tuple[Package, ...]:
        """All packages, in the lock's order; what it does not know comes last."""
        return tuple({**self._locked, **self._taken}.values())

    @property
    def lines(self) -> tuple[str, ...]:
        """One line for each package that is not the locked one."""
        return tuple(
            f"{self._recipe.name}: {self._locked.get(key, 'nothing')} -> {package}"
            for key, package in sorted(self._taken.items())
        )

    def take_present(self, key: str) -> None:
        """Take the archive's present version. Raises LockError where there is none, or an older."""
        locked, found = self._locked.get(key), self._present.get(key)
        if found is None:
            raise LockError(
                f"{self._vanished.message}; nor has the archive a present version of {locked}",
                hint=f"run {RELOCK_COMMAND} and commit the new lock",
            )
        if locked is not None:
            if found.sha256 == locked.sha256:
                raise DownloadError(
                    f"{self._vanished.message}; yet the archive's index lists it",
                    hint=f"the mirror is incomplete: name another one in {DEBIAN_VARIABLE}",
                )
            refuse_older([locked], [found], self._path)
        self._taken[key] = found

    def lacking(self, files: Mapping[str, Path]) -> tuple[str, Need] | None:
        """A package of the root and what it needs and does not find, by what drifted."""
        root = {
            p.name: files[f"{p.name}:{p.architecture}"] for p in self.packages if p.group == "root"
        }
        changed = {p.name for p in self._taken.values() if p.group == "root"}
        return unmet(root, changed, self._excluded)

    def resolve(self, lacking: tuple[str, Need]) -> None:
        """Take another present version, which meets the need. Raises LockError."""
        name, need = lacking
        for key in (f"root:{name}", *(f"root:{one.name}" for one in need)):
            if key not in self._taken and key in self._present:
                self.take_present(key)
                return
        raise LockError(
            f"the archive's present {name} needs {needs(need)}, which the lock does not have",
            hint=f"run {RELOCK_COMMAND} and commit the new lock",
        )
