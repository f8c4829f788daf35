"""Bring locked packages into the cache, unpack them without root."""

from __future__ import annotations

import fnmatch
import os
import re
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from debian.debfile import DebFile

from product.image.cache import CHUNK, Cache
from product.image.download import download
from product.image.errors import DownloadError
from product.image.locks import Package
from product.image.mirror import Mirrors, find_mirrors


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


def unpack(
    deb: Path,
    root: Path,
    prune: re.Pattern[str] | None = None,
    only: re.Pattern[str] | None = None,
) -> list[str]:
    """Unpack a package's files into ``root`` as the current user; returns the paths.

    No maintainer script runs; owners are dropped; device nodes and paths that match ``prune`` are
    left out; where ``only`` is given, what it matches alone is taken, pruned or not. Raises
    DownloadError for an archive that would write outside ``root``.
    """
    written: list[str] = []
    if only is not None:
        prune = None
    with DebFile(str(deb)) as package:
        tar: tarfile.TarFile = package.data.tgz()
        for member in tar:
            name = os.path.normpath(member.name).lstrip("/")
            if name == "." or (prune is not None and prune.match(name)):
                continue
            if name.startswith("../") or os.path.isabs(member.name):
                raise DownloadError(f"{deb} holds a path outside of its root: {member.name}")
            if only is not None and not only.match(name):
                continue
            _place(tar, member, root, name, prune)
            written.append(name)
    return written


def _place(
    tar: tarfile.TarFile,
    member: tarfile.TarInfo,
    root: Path,
    name: str,
    prune: re.Pattern[str] | None,
) -> None:
    target = root / name
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_symlink() or target.exists():
        target.unlink()
    if member.issym():
        target.symlink_to(member.linkname)
    elif member.islnk():
        source = os.path.normpath(member.linkname).lstrip("/")
        if prune is not None and prune.match(source):
            return
        os.link(root / source, target)
    elif member.isfile():
        stream = tar.extractfile(member)
        assert stream is not None
        with target.open("wb") as output:
            while chunk := stream.read(CHUNK):
                output.write(chunk)
        target.chmod((member.mode & 0o777) | 0o600)


def unpack_all(
    debs: Sequence[Path],
    root: Path,
    prune: re.Pattern[str] | None = None,
    only: Mapping[Path, re.Pattern[str] | None] | None = None,
) -> None:
    """Unpack packages that do not share files, two at a time (lzma runs outside the lock).

    ``only`` says for some of ``debs`` which files alone are taken.
    """
    with ThreadPoolExecutor(max(2, os.cpu_count() or 2)) as threads:
        jobs = [threads.submit(unpack, deb, root, prune, (only or {}).get(deb)) for deb in debs]
        for job in jobs:
            job.result()
