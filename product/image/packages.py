"""Fetch locked packages in parallel, verify them, unpack them without root."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import tarfile
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path

import urllib3
from debian.debfile import DebFile
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from product.image import progress
from product.image.cache import CHUNK, Cache
from product.image.errors import DownloadError
from product.image.locks import RELOCK_COMMAND, Package
from product.image.mirror import Mirrors, find_mirrors

WORKERS = 8
CONNECT_TIMEOUT = 20.0
READ_TIMEOUT = 60.0
RETRIES = 4


def fetch(
    packages: Sequence[Package], cache: Cache, mirrors: Mirrors | None = None
) -> dict[str, Path]:
    """Bring every package into the cache; returns name:architecture to file.

    Raises DownloadError naming the first package that is gone, unreachable or not the locked one.
    """
    found: dict[str, Path] = {}
    missing: list[Package] = []
    for package in packages:
        blob = cache.verified_blob(package.sha256, package.size)
        if blob is None:
            missing.append(package)
        else:
            found[_key(package)] = blob
    if missing:
        found.update(_download(missing, cache, mirrors or find_mirrors()))
    return found


def _key(package: Package) -> str:
    return f"{package.name}:{package.architecture}"


def _pool() -> urllib3.PoolManager:
    retries = urllib3.Retry(
        total=RETRIES, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503, 504)
    )
    timeout = urllib3.Timeout(connect=CONNECT_TIMEOUT, read=READ_TIMEOUT)
    proxy = urllib.request.getproxies().get("http")
    if proxy:
        return urllib3.ProxyManager(proxy, maxsize=WORKERS, retries=retries, timeout=timeout)
    return urllib3.PoolManager(maxsize=WORKERS, retries=retries, timeout=timeout)


def _download(packages: Sequence[Package], cache: Cache, mirrors: Mirrors) -> dict[str, Path]:
    total = sum(package.size for package in packages)
    with (
        progress.step(f"download {len(packages)} packages, {total / 1e6:.0f} MB"),
        Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            console=progress.console,
            transient=True,
            disable=not progress.interactive(),
        ) as bar,
        cache.scratch("download") as work,
        ThreadPoolExecutor(WORKERS) as threads,
    ):
        task = bar.add_task("packages", total=total)
        pool = _pool()
        jobs = {
            threads.submit(
                _download_one, package, pool, mirrors, work, cache, lambda n: bar.advance(task, n)
            ): package
            # Large files first: the last one then does not run alone.
            for package in sorted(packages, key=lambda package: -package.size)
        }
        done, _ = wait(jobs, return_when=FIRST_EXCEPTION)
        for job in done:
            if job.exception() is not None:
                threads.shutdown(cancel_futures=True)
                job.result()
        return {_key(package): job.result() for job, package in jobs.items()}


def _download_one(
    package: Package,
    pool: urllib3.PoolManager,
    mirrors: Mirrors,
    work: Path,
    cache: Cache,
    advance: Callable[[int], None],
) -> Path:
    url = mirrors.url(package.archive, package.path)
    what = f"{package.name} {package.version}"
    target = work / package.sha256
    digest = hashlib.sha256()
    size = 0
    try:
        response = pool.request("GET", url, preload_content=False)
        if response.status == 404:
            raise DownloadError(
                f"the mirror no longer has {what} ({package.path})",
                hint=f"it was superseded: run {RELOCK_COMMAND} and commit the new lock",
            )
        if response.status != 200:
            raise DownloadError(f"fetching {what}: the mirror answered {response.status}")
        with target.open("wb") as stream:
            for chunk in response.stream(CHUNK):
                size += len(chunk)
                if size > package.size:
                    break
                digest.update(chunk)
                stream.write(chunk)
                advance(len(chunk))
        response.release_conn()
    except urllib3.exceptions.HTTPError as error:
        raise DownloadError(
            f"cannot fetch {what}: {error}", hint="check the network and the mirror, then run again"
        ) from None
    if size != package.size or digest.hexdigest() != package.sha256:
        raise DownloadError(
            f"{what} from the mirror is not the locked file: expected {package.size} bytes with "
            f"SHA-256 {package.sha256}, got {size} with {digest.hexdigest()}",
            hint="try another mirror; if it stays, re-lock and read the difference",
        )
    return cache.add_blob(target, package.sha256)


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

    No maintainer script runs; owners are dropped; device nodes, paths that match ``prune`` and,
    where ``only`` is given, all that it does not match are left out. Raises DownloadError for an
    archive that would write outside ``root``.
    """
    written: list[str] = []
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
