"""The licence texts of what an image holds: ``usr/share/doc/PACKAGE/copyright``, as Debian has it.

Each package has a text, or leads to another package that has it. Where an image leaves that one
out, another package of the same source has the same text. ``images/licences.toml`` locks packages
of which an image takes only the texts.
"""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from debian.debfile import DebFile

from product.image import dep5, progress
from product.image.cache import Cache, digest_of, file_sha256
from product.image.dep5 import Declared, declared
from product.image.drift import settle
from product.image.errors import LockError
from product.image.locks import RELOCK_COMMAND, Package
from product.image.packages import fetch
from product.image.recipe import Arch, Recipe
from product.image.sbom import known_licences
from product.image.tools import IMAGES
from product.image.tree import Tree

RECIPE = IMAGES / "licences.toml"
DOC = "usr/share/doc"
_DECLARED = "declared.json"
# The texts that others refer to by this path.
COMMON = "usr/share/common-licenses"
_COMMON_PACKAGE = "base-files"
# Raised when the same packages would give another tree.
_REVISION = 1


class _Found(NamedTuple):
    """What a package says of its licence: the text, or which package has it, or neither."""

    text: bytes | None = None
    leads_to: str | None = None


class Licences:
    """The texts for images of one architecture; ``drift`` says which packages are not as locked."""

    def __init__(self, arch: Arch, cache: Cache, path: Path = RECIPE) -> None:
        recipe = Recipe.load(path)
        lock, self.drift = settle(recipe, arch, cache)
        self._more = lock.packages
        self._arch = arch
        self._cache = cache

    @property
    def digest(self) -> str:
        """Names the packages of which the texts alone are taken."""
        return digest_of([package.sha256 for package in self._more], _REVISION)

    def tree(self, packages: Sequence[Package], *, common: bool = False) -> Path:
        """A tree of the texts of ``packages``, to lay over another.

        ``common`` adds what the texts refer to. Raises LockError for a package without a text.
        """
        wanted = {package.sha256: package for package in packages}
        key = digest_of(sorted(wanted), self.digest, common)

        def build(tree: Path) -> None:
            made = Tree(tree)
            with progress.step(f"collect the licences of {len(wanted)} packages for {self._arch}"):
                for name, text in self._texts(list(wanted.values())).items():
                    made.write(f"{DOC}/{name}/copyright", text)
                if common:
                    self._add_common(made)

        return self._cache.tree(f"licences-{self._arch}", key, build)

    def declared(self, packages: Sequence[Package]) -> dict[str, Declared]:
        """What the texts of ``packages`` name, by SHA-256. Raises LockError."""
        texts = self.tree(packages, common=True)

        def build(tree: Path) -> None:
            with progress.step(f"read the licences of {len(packages)} packages"):
                known = known_licences()
                found = {
                    one.sha256: declared((texts / DOC / one.name / "copyright").read_bytes(), known)
                    for one in packages
                }
            (tree / _DECLARED).write_text(json.dumps(found, sort_keys=True))

        key = digest_of(texts.name, file_sha256(Path(dep5.__file__)))
        made = self._cache.tree(f"licence-names-{self._arch}", key, build)
        return {
            sha256: Declared(tuple(names), expression)
            for sha256, (names, expression) in json.loads((made / _DECLARED).read_text()).items()
        }

    def _texts(self, packages: Sequence[Package]) -> dict[str, bytes]:
        names = {package.name for package in packages}
        more = [package for package in self._more if package.name not in names]
        every = {package.sha256: package for package in (*packages, *more)}
        files = fetch(list(every.values()), self._cache)
        with ThreadPoolExecutor(max(2, os.cpu_count() or 2)) as threads:
            debs = [files[f"{one.name}:{one.architecture}"] for one in every.values()]
            found = dict(zip(every.values(), threads.map(_read, every.values(), debs), strict=True))
        return {one.name: _text(one, found) for one in packages}

    def _add_common(self, tree: Tree) -> None:
        [package] = [one for one in self._more if one.name == _COMMON_PACKAGE]
        [deb] = fetch([package], self._cache).values()
        with DebFile(str(deb)) as opened:
            tar: tarfile.TarFile = opened.data.tgz()
            for member in tar:
                name = os.path.normpath(member.name)
                if name.startswith(f"{COMMON}/"):
                    tree.unpack(tar, member, name)


def _read(package: Package, deb: Path) -> _Found:
    own = f"{DOC}/{package.name}"
    with DebFile(str(deb)) as opened:
        tar: tarfile.TarFile = opened.data.tgz()
        for member in tar:
            name = os.path.normpath(member.name)
            if name not in (own, f"{own}/copyright"):
                continue
            if member.issym():
                # ``usr/share/doc/kmod -> libkmod2``, or ``copyright -> ../libkmod2/copyright``.
                parts = [part for part in PurePosixPath(member.linkname).parts if part != ".."]
                return _Found(leads_to=parts[-1 if name == own else -2])
            if member.isfile():
                stream = tar.extractfile(member)
                assert stream is not None
                return _Found(text=stream.read())
    return _Found()


def _text(package: Package, found: Mapping[Package, _Found]) -> bytes:
    names = {one.name: what for one, what in found.items()}
    seen = found[package]
    for _ in found:
        if seen.text is not None:
            return seen.text
        seen = names.get(seen.leads_to or "", _Found())
    for text in _of_source(package, found):
        return text
    there = f"leads to {found[package].leads_to}" if found[package].leads_to else "has none"
    raise LockError(
        f"no licence text of {package} is locked: it {there}, and so have the others of its source",
        hint=f"add the package that has it to packages.root of {RECIPE.name}, and run "
        f"{RELOCK_COMMAND}",
    )


def _of_source(package: Package, found: Mapping[Package, _Found]) -> Iterable[bytes]:
    """Texts of packages of the same source: all lie in one folder of the archive."""
    folder = PurePosixPath(package.path).parent
    for other, what in found.items():
        if PurePosixPath(other.path).parent == folder and what.text is not None:
            yield what.text
