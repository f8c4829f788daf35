"""Bring locked packages into the cache, unpack them without root."""

from __future__ import annotations

import fnmatch
import os
import re
import stat
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from debian.debfile import DebFile

from product.image.cache import Cache
from product.image.download import download
from product.image.locks import Package
from product.image.mirror import Mirrors, find_mirrors
from product.image.tree import Tree, kept_mode, member_name


def fetch(
    packages: Sequence[Package], cache: Cache, mirrors: Mirrors | None = None
) -> dict[str, Path]:
    """Bring every package into the cache; returns name:architecture to file.

    Raises DownloadError where one cannot be had; VanishedError where no place has it any longer.
    """
    found: dict[str, Path] = {}
    missing: list[Package] = []
    for package in packages:
        blob = cache.verified_blob(package.sha256, package.size)
        if blob is None:
            missing.append(package)
        else:
            found[_name(package)] = blob
    if missing:
        files = download(missing, cache, mirrors or find_mirrors())
        found |= {_name(package): files[package.sha256] for package in missing}
    return found


def _name(package: Package) -> str:
    return f"{package.name}:{package.architecture}"


def compile_globs(patterns: Iterable[str]) -> re.Pattern[str] | None:
    """One expression that matches a path below the root (no leading slash), or None."""
    joined = "|".join(fnmatch.translate(pattern) for pattern in patterns)
    return re.compile(joined) if joined else None


class Unpacked(NamedTuple):
    """What a package brought: paths, and the modes that it wants for folders."""

    names: list[str]
    folders: dict[str, int]


def unpack(
    deb: Path,
    root: Path,
    prune: re.Pattern[str] | None = None,
    only: re.Pattern[str] | None = None,
) -> Unpacked:
    """Unpack a package's files into ``root`` as the current user; folders get no mode yet.

    No maintainer script runs; owners are dropped; paths that match ``prune`` are left out; where
    ``only`` is given, what it matches alone is taken, pruned or not. Raises TreeError for an
    archive that would write outside ``root`` or holds a device.
    """
    found = Unpacked([], {})
    if only is not None:
        prune = None
    tree = Tree(root, deb.name)
    with DebFile(str(deb)) as package:
        tar: tarfile.TarFile = package.data.tgz()
        for member in tar:
            name = member_name(member.name, deb.name)
            if name == "." or (prune is not None and prune.match(name)):
                continue
            if only is not None and not only.match(name):
                continue
            if member.islnk() and prune is not None and prune.match(_source(member, deb)):
                continue
            tree.unpack(tar, member, name)
            if member.isdir():
                path = tree.follow(name).relative_to(root).as_posix()
                found.folders.setdefault(path, kept_mode(member))
            found.names.append(name)
    return found


def _source(member: tarfile.TarInfo, deb: Path) -> str:
    """What a hard link is to."""
    return member_name(member.linkname, deb.name)


def unpack_all(
    debs: Sequence[Path],
    root: Path,
    prune: re.Pattern[str] | None = None,
    only: Mapping[Path, re.Pattern[str] | None] | None = None,
) -> None:
    """Unpack packages that do not share files, two at a time (lzma runs outside the lock).

    ``only`` says for some of ``debs`` which files alone are taken. A folder's mode is that of the
    first package that has it; its owner may always write.
    """
    with ThreadPoolExecutor(max(2, os.cpu_count() or 2)) as threads:
        jobs = [threads.submit(unpack, deb, root, prune, (only or {}).get(deb)) for deb in debs]
        modes: dict[str, int] = {}
        for job in jobs:
            modes = job.result().folders | modes
    for name, mode in modes.items():
        (root / name).chmod(mode | stat.S_IRWXU)
