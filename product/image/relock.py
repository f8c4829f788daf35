"""Make lock files: let apt resolve the packages of a recipe and check the archive's signature.

apt runs with a private configuration: nothing of the host but its keyring and, through
``product.image.mirror``, its mirror. So this one command needs a host with apt; building does not.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from debian.debian_support import Version

from product.image import progress
from product.image.cache import Cache
from product.image.errors import LockError
from product.image.locks import RELOCK_COMMAND, Lock, Package
from product.image.mirror import DEBIAN_VARIABLE, Mirrors, find_mirrors, now_stamp
from product.image.recipe import Arch, Recipe

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_URI = re.compile(r"^'(?P<url>[^']+)' (?P<file>\S+) (?P<size>\d+) SHA256:(?P<sha256>[0-9a-f]{64})$")


def _url_text(text: str) -> str:
    """Undo what apt escapes in addresses and file names."""
    return text.replace("%2b", "+").replace("%7e", "~").replace("%3a", ":")


class Change(NamedTuple):
    """One package whose locked version differs from the archive's; None stands for absent."""

    name: str
    locked: str | None
    available: str | None


class _Apt:
    def __init__(self, folder: Path, recipe: Recipe, arch: Arch, mirrors: Mirrors) -> None:
        if shutil.which("apt-get") is None:
            raise LockError(
                "the archive's present packages are resolved by apt-get, which this host lacks",
                hint="install apt and debian-archive-keyring, or use a host with Debian",
            )
        if not KEYRING.is_file():
            raise LockError(f"{KEYRING} is missing", hint="install debian-archive-keyring")
        self.folder = folder
        self.mirrors = mirrors
        for name in ("state/lists/partial", "cache/archives/partial", "etc/preferences.d", "none"):
            (folder / name).mkdir(parents=True)
        (folder / "status").touch()
        signed = f"[signed-by={KEYRING}]"
        suite, components = recipe.suite, " ".join(recipe.components)
        (folder / "etc/sources.list").write_text(
            f"deb {signed} {mirrors.debian} {suite} {components}\n"
            f"deb {signed} {mirrors.debian} {suite}-updates {components}\n"
            f"deb {signed} {mirrors.security} {suite}-security {components}\n"
        )
        options = {
            "Dir": str(folder),
            "Dir::State": f"{folder}/state",
            "Dir::State::status": f"{folder}/status",
            "Dir::Cache": f"{folder}/cache",
            "Dir::Etc": f"{folder}/etc",
            "Dir::Etc::sourceparts": f"{folder}/none",
            "Dir::Etc::parts": f"{folder}/none",
            "APT::Architecture": arch.debian,
            "APT::Architectures": arch.debian,
            "APT::Install-Recommends": "false",
            "Acquire::Languages": "none",
            "Acquire::ForceHash": "SHA256",
            "APT::Get::AllowUnauthenticated": "false",
        }
        text = "".join(f'{key} "{value}";\n' for key, value in options.items())
        (folder / "apt.conf").write_text(text)
        self.run("apt-get", "-q", "-o", "APT::Update::Error-Mode=any", "update")

    def run(self, *argv: str) -> str:
        environment = {**os.environ, "APT_CONFIG": str(self.folder / "apt.conf"), "LC_ALL": "C"}
        result = subprocess.run(argv, capture_output=True, text=True, env=environment, check=False)
        if result.returncode:
            lines = [line for line in result.stderr.splitlines() if line.startswith("E:")]
            raise LockError(f"{' '.join(argv)} failed: {' '.join(lines) or result.stderr[-500:]}")
        return result.stdout

    def closure(self, names: tuple[str, ...], group: str) -> list[Package]:
        if not names:
            return []
        output = self.run("apt-get", "-qq", "--print-uris", "install", *names)
        return [self._package(line, group) for line in output.splitlines() if line]

    def dependency(self, name: str) -> str:
        """The one package that a meta package stands for."""
        output = self.run("apt-cache", "depends", name)
        match = re.search(r"^\s+Depends: (\S+)", output, re.M)
        if match is None:
            raise LockError(f"package {name} depends on nothing, a kernel's meta package would")
        return match[1]

    def _package(self, line: str, group: str) -> Package:
        match = _URI.match(line)
        if match is None:
            raise LockError(f"apt printed a line that is not understood: {line}")
        name, version, architecture = match["file"].removesuffix(".deb").split("_")
        url = match["url"]
        security = url.startswith(self.mirrors.security + "/")
        base = self.mirrors.security if security else self.mirrors.debian
        return Package(
            name=name,
            version=version.replace("%3a", ":"),
            architecture=architecture,
            group=group,
            archive="debian-security" if security else "debian",
            path=_url_text(url.removeprefix(base + "/")),
            size=int(match["size"]),
            sha256=match["sha256"],
        )


def resolve(recipe: Recipe, arch: Arch, cache: Cache, mirrors: Mirrors | None = None) -> Lock:
    """The lock that the archive would give today. Raises LockError where apt refuses."""
    extra = recipe.packages.of(arch)
    with cache.scratch("relock") as folder:
        apt = _Apt(folder, recipe, arch, mirrors or find_mirrors())
        roots = recipe.packages.root + extra.root
        excluded = set(recipe.packages.exclude) - set(roots)
        rows = apt.closure(roots, "root")
        packages = [row for row in rows if row.name not in excluded]
        unused = excluded - {row.name for row in rows}
        if unused:
            progress.note(f"{recipe.name}: excluded but never pulled in: {sorted(unused)}")
        for group, names in (
            ("kernel", tuple(apt.dependency(name) for name in extra.kernel)),
            ("boot", extra.boot),
        ):
            wanted = set(names)
            packages += [row for row in apt.closure(names, group) if row.name in wanted]
    packages.sort(key=lambda row: (row.group, row.name))
    return Lock(
        suite=recipe.suite,
        request=recipe.request(arch),
        snapshot=now_stamp(),
        packages=tuple(packages),
    )


def relock(recipe: Recipe, arch: Arch, cache: Cache, *, allow_older: bool = False) -> list[Change]:
    """Write the lock file anew; returns what changed.

    Raises LockError where the archive has an older version than the lock, unless ``allow_older``.
    """
    path = recipe.lock_path(arch)
    with progress.step(f"lock {path.name}"):
        new = resolve(recipe, arch, cache)
        old = Lock.load(path) if path.exists() else None
        if old is not None and not allow_older:
            refuse_older(old.packages, new.packages, path)
        if old is not None and old.snapshot:
            # Its own stamp still holds where nothing else has changed.
            unstamped = new.model_copy(update={"snapshot": old.snapshot})
            new = unstamped if unstamped.dump() == old.dump() else new
        path.parent.mkdir(exist_ok=True)
        path.write_text(new.dump())
    return changes(old, new)


def refuse_older(locked: Iterable[Package], offered: Iterable[Package], path: Path) -> None:
    """Raise LockError where one is offered in an older version than the locked one.

    Debian's own Release files do not expire, so a mirror can hide updates by serving old ones.
    """
    before = {package.key: package for package in locked}
    older = [
        f"{package} (locked: {before[package.key].version})"
        for package in offered
        if package.key in before and Version(package.version) < Version(before[package.key].version)
    ]
    if older:
        raise LockError(
            f"the mirror offers older versions than {path} has: {', '.join(older)}",
            hint=f"it lags behind or hides updates: name another mirror in {DEBIAN_VARIABLE}; if "
            f"the archive itself withdrew them, {RELOCK_COMMAND} -- --allow-older takes the older",
        )


def outdated(recipe: Recipe, arch: Arch, cache: Cache) -> list[Change]:
    """What a re-lock would change, without writing anything."""
    with progress.step(f"check {recipe.lock_path(arch).name}"):
        return changes(Lock.load(recipe.lock_path(arch)), resolve(recipe, arch, cache))


def changes(old: Lock | None, new: Lock) -> list[Change]:
    """Differences by package name, in order."""
    before = {package.name: package.version for package in old.packages} if old else {}
    after = {package.name: package.version for package in new.packages}
    return [
        Change(name, before.get(name), after.get(name))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]
