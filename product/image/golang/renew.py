"""Renew what Go modules lock: the newest patch release of what each names, and of the toolchain.

Of a module are renewed its direct requirements and the modules of its tools, each within its minor
version, unless the line in go.mod says ``// pinned``. Where one is ``k8s.io/kubernetes v1.Y.Z`` it
alone is, with the parts of Kubernetes (``k8s.io/api v0.Y.Z``), because Kubernetes names the
versions of etcd and others that it was tested with. ``go mod tidy`` then settles the rest. New
checksums are compared with the user's checksum database (GOSUMDB).
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from product.image import progress
from product.image.cache import Cache
from product.image.errors import DownloadError
from product.image.golang.diagnosis import Attempt, explain
from product.image.golang.modules import GoCommand, GoModule
from product.image.golang.toolchain import (
    DISTRIBUTION,
    LOCK,
    Toolchain,
    ToolchainLock,
    lock_wheel,
    pip,
)
from product.image.recipe import Arch
from product.image.relock import Change

PINNED = "// pinned"
_KUBERNETES = "k8s.io/kubernetes"
_STAGING = "k8s.io/"
_RELEASE = re.compile(r"v(\d+)\.(\d+)\.(\d+)(\+incompatible)?")


def modules_in(folder: Path) -> Iterator[GoModule]:
    """Those of one folder: of go.mod, and of other files NAME.mod. Raises LockError."""
    yield GoModule(folder)
    for path in sorted(folder.glob("*.mod")):
        if path.name != "go.mod":
            yield GoModule(folder, path.name)


class Renewable(Protocol):
    """A lock that can be renewed from upstream."""

    def outdated(self) -> list[Change]:
        """What ``renew`` would change. Raises ImageError."""

    def renew(self) -> list[Change]:
        """Write the lock anew; what changed. Raises ImageError; the lock then stays."""


@dataclass(frozen=True, slots=True)
class _ModFile:
    """A go.mod: versions by module, and what stands in the place of which."""

    requires: Mapping[str, str] = field(default_factory=dict)
    direct: frozenset[str] = frozenset()
    # Module and version by the module that they replace.
    replaces: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @classmethod
    def read(cls, printed: str, text: str) -> _ModFile:
        """From what ``go mod edit -json`` prints of it, and from its text."""
        rows: dict[str, Any] = json.loads(printed)
        pinned = {
            word
            for line in text.splitlines()
            if PINNED in line
            for word in line.partition("//")[0].split()
        }
        requires = rows.get("Require") or []
        # Go calls a module indirect of which a tool alone is used.
        tools = {
            _module_of(row["Path"], [one["Path"] for one in requires])
            for row in rows.get("Tool") or []
        }
        return cls(
            {row["Path"]: row["Version"] for row in requires},
            frozenset(
                row["Path"]
                for row in requires
                if row["Path"] not in pinned and (not row.get("Indirect") or row["Path"] in tools)
            ),
            {
                row["Old"]["Path"]: (row["New"]["Path"], row["New"]["Version"])
                for row in rows.get("Replace") or []
                if row["New"].get("Version")
            },
        )

    def used(self, path: str) -> tuple[str, str]:
        """The module and version that stand for the required ``path``."""
        return self.replaces.get(path, (path, self.requires[path]))

    def version(self, path: str) -> str | None:
        """What is used for ``path``; None where it is not required."""
        return self.used(path)[1] if path in self.requires else None


class ModuleRenewal:
    """Renews one module; nothing is written but by ``renew``."""

    def __init__(self, module: GoModule, cache: Cache) -> None:
        self._module = module
        self._cache = cache
        self._go = GoCommand(Toolchain.prepare(cache, module.toolchain), cache)

    def outdated(self) -> list[Change]:
        """What ``renew`` would take in the place of what. Raises DownloadError, LockError."""
        with progress.step(f"check {self._module.name}"), self._cache.scratch("go-renew") as work:
            newer = self._newer(self._read(self._module.modfile), work)
        return [Change(path, old, new) for path, (old, new) in sorted(newer.items())]

    def renew(self) -> list[Change]:
        """Write go.mod and go.sum anew; what changed. Raises DownloadError, LockError.

        Both are left as they are where anything fails. go.sum is complete afterwards.
        """
        module = self._module
        with progress.step(f"lock {module.name}"), self._cache.scratch("go-renew") as work:
            copy = Path(shutil.copytree(module.folder, work / "module"))
            modfile = copy / module.modfile.name
            before = self._read(modfile)
            (work / "empty").mkdir()
            edits = _edits(before, self._newer(before, work / "empty"))
            if edits:
                self._run(["mod", "edit", *edits, modfile.name], copy)
            self._run(self._module.with_modfile(["mod", "tidy"]), copy)
            after = self._read(modfile)
            # go.sum first: what go.mod names is then never without its checksums.
            for path in (modfile.with_suffix(".sum"), modfile):
                if path.is_file():
                    _replace(module.folder / path.name, path.read_bytes())
        return [
            Change(name, before.version(name), after.version(name))
            for name in sorted({*before.requires, *after.requires})
            if before.version(name) != after.version(name)
        ]

    @property
    def renewed(self) -> list[str]:
        """The modules whose newer releases are looked for. Raises LockError."""
        return _renewed(self._read(self._module.modfile))

    def _read(self, modfile: Path) -> _ModFile:
        ended, printed = self._go.ask(
            modfile.parent, ["mod", "edit", "-json", modfile.name], self._go.offline()
        )
        if ended.status:
            raise explain(self._attempt("read", "off"), ended)
        return _ModFile.read(printed, modfile.read_text())

    def _newer(self, locked: _ModFile, work: Path) -> dict[str, tuple[str, str]]:
        """Old and new version of each requirement that is to be renewed and has a newer release."""
        found = {}
        for required in _renewed(locked):
            path, version = locked.used(required)
            newest = self._newest(path, version, work)
            if newest != version:
                found[required] = (version, newest)
        return found

    def _newest(self, path: str, version: str, work: Path) -> str:
        """The newest patch release of the same minor version; ``version`` where it is no release.

        Asked in the empty directory ``work``, so that no go.mod counts.
        """
        own = _RELEASE.fullmatch(version)
        if own is None:
            return version
        command = ["list", "-m", "-versions", "-json", path]
        ended, printed = self._go.ask(work, command, self._go.online())
        if ended.status:
            raise explain(self._attempt("ask for releases of " + path), ended)
        releases = [
            found
            for one in json.loads(printed).get("Versions") or []
            if (found := _RELEASE.fullmatch(one)) and found.group(1, 2, 4) == own.group(1, 2, 4)
        ]
        return max([own, *releases], key=lambda found: int(found[3]))[0]

    def _run(self, command: list[str], cwd: Path) -> None:
        ended, _ = self._go.ask(cwd, command, self._go.online())
        if ended.status:
            raise explain(self._attempt(f"lock the Go modules of {self._module.name}"), ended)

    def _attempt(self, what: str, proxy: str = "") -> Attempt:
        return self._module.attempt(what, proxy or self._go.proxy(self._cache.tmp))


def _renewed(locked: _ModFile) -> list[str]:
    return sorted(locked.direct & {_KUBERNETES} or locked.direct)


def _module_of(package: str, modules: Iterable[str]) -> str:
    """Which of ``modules`` has the package: that of the longest name."""
    return max((m for m in modules if f"{package}/".startswith(f"{m}/")), key=len, default="")


def _edits(locked: _ModFile, newer: Mapping[str, tuple[str, str]]) -> list[str]:
    """Arguments of ``go mod edit`` that put the new versions in the place of the old ones."""
    renewed = dict(newer)
    if _KUBERNETES in newer:
        old, new = newer[_KUBERNETES]
        for path in {*locked.requires, *locked.replaces} - {*newer}:
            if path.startswith(_STAGING):
                renewed[path] = (_staging(old), _staging(new))
    edits = []
    for path, (old, new) in sorted(renewed.items()):
        if path in locked.replaces and locked.replaces[path][1] == old:
            edits.append(f"-replace={path}={locked.replaces[path][0]}@{new}")
        if locked.requires.get(path) == old:
            edits.append(f"-require={path}@{new}")
    return edits


def _staging(version: str) -> str:
    """Of Kubernetes' v1.Y.Z its parts' v0.Y.Z."""
    return re.sub(r"^v1\.", "v0.", version)


def newest_toolchain(lock: ToolchainLock) -> str:
    """The newest patch release of the locked minor version that pip's index has.

    Raises DownloadError, ToolError.
    """
    minor = ".".join(lock.version.split(".")[:2])
    wheel = lock.wheels[Arch.X86_64]
    printed = pip(
        "install", "--dry-run", "--quiet", "--ignore-installed", "--no-deps", "--only-binary",
        ":all:", "--platform", wheel.platform, "--target", "none", "--report", "-",
        f"{DISTRIBUTION}=={minor}.*", what=f"the newest {DISTRIBUTION} {minor}",
    )  # fmt: skip
    try:
        found: str = json.loads(printed)["install"][0]["metadata"]["version"]
    except (ValueError, LookupError, TypeError):
        raise DownloadError(f"pip names no newest {DISTRIBUTION} {minor}") from None
    return max(found, lock.version, key=lambda one: [int(part) for part in one.split(".")])


class ToolchainRenewal:
    """Renews the toolchain's lock; nothing is written but by ``renew``."""

    def __init__(self, cache: Cache, path: Path = LOCK) -> None:
        self._cache = cache
        self._path = path

    def outdated(self) -> list[Change]:
        """What ``renew`` would take. Raises DownloadError, LockError, ToolError."""
        lock = ToolchainLock.load(self._path)
        with progress.step(f"check {self._path.name}"):
            newest = newest_toolchain(lock)
        return [Change(DISTRIBUTION, lock.version, newest)] if newest != lock.version else []

    def renew(self) -> list[Change]:
        """Write the lock anew; what changed. Raises DownloadError, LockError, ToolError."""
        lock = ToolchainLock.load(self._path)
        with progress.step(f"lock {self._path.name}"):
            newest = newest_toolchain(lock)
            if newest == lock.version:
                return []
            wheels = {
                arch: lock_wheel(newest, lock.wheels[arch].platform, self._cache) for arch in Arch
            }
            made = ToolchainLock(version=newest, wheels=wheels)
            _replace(self._path, made.dump().encode())
        return [Change(DISTRIBUTION, lock.version, newest)]


def _replace(path: Path, data: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data)
    part.replace(path)
