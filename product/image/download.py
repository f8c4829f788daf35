"""Download locked packages in parallel. Every place where one may lie is asked; digests decide."""

from __future__ import annotations

import contextlib
import hashlib
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

import urllib3
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from product.image import progress
from product.image.cache import CHUNK, Cache
from product.image.errors import DownloadError, VanishedError
from product.image.locks import RELOCK_COMMAND, Package
from product.image.mirror import SNAPSHOT_VARIABLE, Mirrors, Place

WORKERS = 8
CONNECT_TIMEOUT = 20.0
READ_TIMEOUT = 60.0
RETRIES = 4
# By these a server says that it has no such file; some say "forbidden" of what is not there.
_GONE = (403, 404, 410)
# How many vanished packages an error names.
_NAMED = 10


class _Refusal(NamedTuple):
    """What one place gave instead of the locked file; ``settled``: asking again changes nothing."""

    place: Place
    words: str
    settled: bool


def download(packages: Sequence[Package], cache: Cache, mirrors: Mirrors) -> dict[str, Path]:
    """Bring packages into the cache; returns SHA-256 to file.

    Raises VanishedError with every package that no place has, after the others were brought, and
    DownloadError as soon as one cannot be had for another reason.
    """
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
        one = _Downloader(mirrors, work, cache, lambda size: bar.advance(task, size))
        # Large files first: the last one then does not run alone.
        ordered = sorted(packages, key=lambda package: -package.size)
        jobs = {threads.submit(one.download, package): package for package in ordered}
        files: dict[str, Path] = {}
        vanished: dict[Package, str] = {}
        for job in as_completed(jobs):
            package = jobs[job]
            try:
                files[package.sha256] = job.result()
            except VanishedError as error:
                vanished[package] = error.message
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                raise
    if vanished:
        raise _vanished({p: vanished[p] for p in packages if p in vanished}, mirrors)
    return files


def _vanished(found: dict[Package, str], mirrors: Mirrors) -> VanishedError:
    packages = list(found)
    message = found[packages[0]]
    if len(packages) > 1:
        names = ", ".join(str(package) for package in packages[:_NAMED])
        more = f" and {len(packages) - _NAMED} more" if len(packages) > _NAMED else ""
        message = f"{len(packages)} locked packages have vanished: {names}{more}; {message}"
    snapshot = "" if mirrors.snapshot else f"name a snapshot archive in {SNAPSHOT_VARIABLE}, or "
    return VanishedError(
        message,
        packages,
        hint=f"{snapshot}run {RELOCK_COMMAND} and commit the new lock; to build with the archive's "
        "present versions, which are not the locked ones, add --allow-drift (image, release) or "
        "set KUBESOLO_ALLOW_DRIFT=1",
    )


class _Downloader:
    """Downloads one package after the other, from several threads."""

    def __init__(
        self, mirrors: Mirrors, work: Path, cache: Cache, advance: Callable[[int], None]
    ) -> None:
        self._mirrors = mirrors
        self._work = work
        self._cache = cache
        self._advance = advance
        self._pool = _pool()

    def download(self, package: Package) -> Path:
        """The blob. Raises VanishedError, DownloadError."""
        refusals: list[_Refusal] = []
        for place in self._mirrors.places(package.archive, package.path, package.snapshot):
            # A host that did not answer costs minutes of trying again.
            if place.host in {one.place.host for one in refusals if not one.settled}:
                continue
            refusal = self._try(package, place)
            if refusal is None:
                return self._cache.add_blob(self._work / package.sha256, package.sha256)
            refusals.append(refusal)
        tried = "; ".join(f"{one.place.name} ({one.place.url}) {one.words}" for one in refusals)
        if all(one.settled for one in refusals if one.place.is_mirror):
            raise VanishedError(f"no place has the locked {package}: {tried}", [package], hint="")
        raise DownloadError(
            f"cannot fetch {package}: {tried}",
            hint="check the network and the mirror, then run again",
        )

    def _try(self, package: Package, place: Place) -> _Refusal | None:
        """None where ``place`` gave the locked file, which then lies in the work directory."""
        digest = hashlib.sha256()
        size = 0
        try:
            response = self._pool.request("GET", place.url, preload_content=False)
            with contextlib.closing(response):
                if response.status != 200:
                    gone = response.status in _GONE
                    return _Refusal(place, f"answered {response.status}", gone)
                with (self._work / package.sha256).open("wb") as stream:
                    for chunk in response.stream(CHUNK):
                        size += len(chunk)
                        if size > package.size:
                            break
                        digest.update(chunk)
                        stream.write(chunk)
                        self._advance(len(chunk))
                response.release_conn()
        except urllib3.exceptions.HTTPError as error:
            self._advance(-min(size, package.size))
            return _Refusal(place, f"cannot be asked: {error}", settled=False)
        if size == package.size and digest.hexdigest() == package.sha256:
            return None
        self._advance(-min(size, package.size))
        got = f"more than {package.size}" if size > package.size else str(size)
        return _Refusal(
            place,
            f"has a file that is not the locked one: expected {package.size} bytes with SHA-256 "
            f"{package.sha256}, got {got} with {digest.hexdigest()}",
            settled=True,
        )


def _pool() -> urllib3.PoolManager:
    retries = urllib3.Retry(
        total=RETRIES, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503, 504)
    )
    timeout = urllib3.Timeout(connect=CONNECT_TIMEOUT, read=READ_TIMEOUT)
    proxy = urllib.request.getproxies().get("http")
    if proxy:
        return urllib3.ProxyManager(proxy, maxsize=WORKERS, retries=retries, timeout=timeout)
    return urllib3.PoolManager(maxsize=WORKERS, retries=retries, timeout=timeout)
