"""KubeSolo's release archives: pinned by address, size and SHA-256, fetched, verified, unpacked.

The lock (``images/locks/kubesolo-release.json``) is made by ``./noxw -s lock`` from the release's
own SHA256SUMS, over HTTPS: upstream signs nothing. An entry that was never checked against it has
no digest, and nothing is built from it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import re
import tarfile
import urllib.request
import zlib
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import urllib3
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from product.image import progress
from product.image.cache import CHUNK, Cache, file_sha256
from product.image.errors import DownloadError, ImageError, LockError
from product.image.locks import RELOCK_COMMAND
from product.image.recipe import Arch

HOME = "https://github.com/portainer/kubesolo/releases/download"
PROGRAM = "kubesolo"
OTHER_WAYS = "give the archive by --payload-archive FILE, or build --recipe images/upstream.toml"
_HOW = (
    "--payload-archive FILE --payload-sha256 SHA256 takes an archive that was fetched elsewhere, "
    "--recipe images/upstream.toml another Kubernetes"
)
_REPLACED = "try another mirror; if it stays, somebody replaced the release"
MAX_PROGRAM = 1 << 30
CONNECT_TIMEOUT = 20.0
READ_TIMEOUT = 60.0
# How often a broken transfer is taken up again.
ATTEMPTS = 4

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Pin(_Model):
    """One archive; ``size`` (bytes) and ``sha256`` are None until a lock run has seen them.

    Where the user gave the digest alone, ``size`` stays None until the archive is fetched.
    """

    url: str = Field(pattern=r"^https?://[^\s]+$")
    size: int | None = Field(default=None, gt=0)
    sha256: Sha256 | None = None


class ReleaseLock(_Model):
    """The lock file: the archives of one release."""

    schema_version: Literal[1] = 1
    release: str
    variant: str
    archives: dict[Arch, Pin]

    @classmethod
    def load(cls, path: Path) -> ReleaseLock:
        """Read the lock. Raises LockError that names what is wrong."""
        hint = f"restore it from version control, or run {RELOCK_COMMAND}"
        try:
            return cls.model_validate(json.loads(path.read_bytes()))
        except FileNotFoundError:
            raise LockError(f"lock file {path} is missing", hint=hint) from None
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise LockError(
                f"lock file {path} is damaged at {place}: {first['msg']}", hint=hint
            ) from None
        except ValueError as error:
            raise LockError(f"lock file {path} is not JSON: {error}", hint=hint) from None

    def pin(
        self, arch: Arch, release: str, variant: str, path: Path, given: str | None = None
    ) -> Pin:
        """The archive for ``arch``, if it may be built from. Raises LockError.

        ``given`` is the user's SHA-256; it stands for a digest that the lock lacks.
        """
        if (self.release, self.variant) != (release, variant):
            raise LockError(
                f"lock file {path} is for KubeSolo {self.release} {self.variant}, "
                f"the recipe wants {release} {variant}",
                hint=f"run {RELOCK_COMMAND} and commit the result",
            )
        pin = self.archives.get(arch)
        if pin is not None and pin.sha256 is None and given is not None:
            return Pin(url=pin.url, sha256=given)
        if pin is None or pin.sha256 is None or pin.size is None:
            raise LockError(
                f"KubeSolo {release} for {arch} has no verified digest in {path}; "
                f"say it by --payload-sha256, {OTHER_WAYS}",
                hint=f"run {RELOCK_COMMAND} where github.com can be reached; or {_HOW}",
            )
        return pin


def archive_name(release: str, variant: str, arch: Arch) -> str:
    """The asset's name; ``variant`` is empty for the build with glibc that pulls its images."""
    return f"kubesolo-{release}-linux-{arch.debian}{'-' + variant if variant else ''}.tar.gz"


def fetch(pin: Pin, cache: Cache, mirror: str | None = None) -> Path:
    """The archive in the cache, verified; ``mirror`` takes the place of HOME's address.

    Raises DownloadError in one line where it cannot be had or is not the pinned one.
    """
    assert pin.sha256 is not None
    blob = cache.blob(pin.sha256)
    size = blob.stat().st_size if pin.size is None and blob.exists() else pin.size
    found = cache.verified_blob(pin.sha256, size) if size is not None else None
    if found is not None:
        return found
    url = pin.url if mirror is None else f"{mirror.rstrip('/')}/{_below_home(pin.url)}"
    if pin.size is None:
        # It only bounds the transfer: the digest decides.
        pin = pin.model_copy(update={"size": _size(url)})
    assert pin.sha256 is not None
    assert pin.size is not None
    folder = cache.tmp / f"release-{pin.sha256[:32]}"
    with (
        cache.lock(folder.name),
        progress.step(f"download {url.rsplit('/', 1)[-1]}, {pin.size / 1e6:.0f} MB"),
    ):
        found = cache.verified_blob(pin.sha256, pin.size)
        if found is not None:
            return found
        folder.mkdir(exist_ok=True)
        partial = folder / "partial"
        continued = partial.exists()
        _download(url, partial, pin.size)
        digest = file_sha256(partial)
        if digest != pin.sha256 and continued:
            # What an earlier run left may be what is wrong.
            partial.unlink()
            _download(url, partial, pin.size)
            digest = file_sha256(partial)
        if digest != pin.sha256:
            partial.unlink()
            raise DownloadError(
                f"{url} is not the pinned archive: expected SHA-256 {pin.sha256}, got {digest}",
                hint=_REPLACED,
            )
        blob = cache.add_blob(partial, pin.sha256)
        folder.rmdir()
        return blob


def _below_home(url: str) -> str:
    """``RELEASE/ARCHIVE``, which is how a mirror is laid out."""
    return "/".join(urlsplit(url).path.split("/")[-2:])


def _download(url: str, partial: Path, size: int) -> None:
    """Bring ``url`` to ``partial``, going on where an earlier run or a broken transfer ended."""
    pool = _pool(url)
    for attempt in range(ATTEMPTS):
        have = partial.stat().st_size if partial.exists() else 0
        if have > size:
            partial.unlink()
            have = 0
        if have == size:
            return
        try:
            _transfer(pool, url, partial, have, size)
        except urllib3.exceptions.HTTPError as error:
            if attempt == ATTEMPTS - 1 or isinstance(error, urllib3.exceptions.MaxRetryError):
                raise _unreachable(f"cannot fetch {url}: {_reason(error)}") from None
    have = partial.stat().st_size if partial.exists() else 0
    if have != size:
        partial.unlink(missing_ok=True)
        raise DownloadError(
            f"{url} is not the pinned archive: expected {size} bytes, got {have}",
            hint=_REPLACED,
        )


def _transfer(pool: urllib3.PoolManager, url: str, partial: Path, have: int, size: int) -> None:
    headers = {"Range": f"bytes={have}-"} if have else {}
    response = pool.request("GET", url, headers=headers, preload_content=False)
    try:
        if response.status == 206 and have:
            begins = response.headers.get("Content-Range", "")
            mode = "ab" if begins.startswith(f"bytes {have}-") else None
        elif response.status == 416:
            mode = None
        elif response.status == 200:
            mode = "wb"
        else:
            raise _unreachable(f"cannot fetch {url}: the server answered {response.status}")
        if mode is None:
            # The server does not go on from here: begin again.
            partial.unlink()
            return
        length = have if mode == "ab" else 0
        with partial.open(mode) as stream:
            # What came before a connection broke is kept: stream() would drop a partial chunk.
            while chunk := response.read1(CHUNK):
                stream.write(chunk)
                length += len(chunk)
                if length > size:
                    break
    finally:
        response.release_conn()
        response.close()
    if length > size:
        partial.unlink()
        raise DownloadError(
            f"{url} is not the pinned archive: expected {size} bytes, got more",
            hint=_REPLACED,
        )


def _pool(url: str) -> urllib3.PoolManager:
    # A name that does not resolve will not do so a second later: one try a request, and the
    # transfer as a whole is tried again where it broke after it began.
    retries = urllib3.Retry(
        connect=1, read=0, redirect=5, status=2, backoff_factor=0.2, status_forcelist=(502, 503),
        raise_on_status=False,
    )  # fmt: skip
    timeout = urllib3.Timeout(connect=CONNECT_TIMEOUT, read=READ_TIMEOUT)
    parts = urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy and not urllib.request.proxy_bypass(parts.hostname or ""):
        return urllib3.ProxyManager(proxy, retries=retries, timeout=timeout)
    return urllib3.PoolManager(retries=retries, timeout=timeout)


def _unreachable(what: str) -> DownloadError:
    """One line that says what failed and names the alternative."""
    return DownloadError(f"{what}; {OTHER_WAYS}", hint=_HOW)


def _reason(error: urllib3.exceptions.HTTPError) -> str:
    """The cause in a few words: urllib3's own text begins with the pool's address."""
    cause: BaseException = error
    while isinstance(cause, urllib3.exceptions.MaxRetryError) and cause.reason is not None:
        cause = cause.reason
    text = str(cause)
    return re.sub(r"^(<[^>]*>|\w+\([^)]*\)):\s*", "", text) or type(cause).__name__


def unpack_program(archive: Path, target: Path) -> None:
    """Write the archive's only member, the program, to ``target``.

    Raises ImageError for an archive that holds anything else: nothing of it is written then.
    """
    try:
        with tarfile.open(archive, "r:gz") as tar:
            member = tar.next()
            if member is None or member.name != PROGRAM or not member.isfile():
                raise _unexpected(archive, member)
            if member.size > MAX_PROGRAM:
                raise ImageError(f"{archive} holds a program of {member.size} bytes, too large")
            stream = tar.extractfile(member)
            assert stream is not None
            with target.open("wb") as output:
                while chunk := stream.read(CHUNK):
                    output.write(chunk)
            second = tar.next()
            if second is not None:
                target.unlink()
                raise _unexpected(archive, second)
    except FileNotFoundError:
        raise ImageError(f"there is no archive {archive}") from None
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        target.unlink(missing_ok=True)
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise
        raise ImageError(
            f"{archive} is no tar.gz, or is damaged: {error}",
            hint="fetch it anew and compare its SHA-256 with the release's SHA256SUMS",
        ) from None
    target.chmod(0o755)


def _unexpected(archive: Path, member: tarfile.TarInfo | None) -> ImageError:
    found = "it is empty"
    if member is not None:
        found = f"it holds {member.name!r}" + ("" if member.isfile() else ", which is no file")
    return ImageError(
        f"{archive} should hold the one file {PROGRAM!r}: {found}",
        hint="take a release archive of KubeSolo as it was published",
    )


def lock_release(
    path: Path, release: str, variant: str, home: str = HOME
) -> tuple[ReleaseLock | None, ReleaseLock]:
    """Write the lock anew from the release's SHA256SUMS; returns it as it was and as it is.

    Raises DownloadError where the sums cannot be had or miss an archive; the lock then stays.
    """
    base = f"{home.rstrip('/')}/{release}"
    sums = _sums(f"{base}/SHA256SUMS")
    archives: dict[Arch, Pin] = {}
    for arch in Arch:
        name = archive_name(release, variant, arch)
        if name not in sums:
            raise DownloadError(
                f"{base}/SHA256SUMS names no {name}", hint="check the recipe's release and variant"
            )
        url = f"{base}/{name}"
        archives[arch] = Pin(url=url, size=_size(url), sha256=sums[name])
    old = None
    with contextlib.suppress(LockError):
        old = ReleaseLock.load(path)
    new = ReleaseLock(release=release, variant=variant, archives=archives)
    path.write_text(json.dumps(new.model_dump(mode="json"), indent=2) + "\n")
    return old, new


def _sums(url: str) -> dict[str, str]:
    try:
        response = _pool(url).request("GET", url)
    except urllib3.exceptions.HTTPError as error:
        raise _unreachable(f"cannot fetch {url}: {_reason(error)}") from None
    if response.status != 200:
        raise _unreachable(f"cannot fetch {url}: the server answered {response.status}")
    found = {}
    for line in response.data.decode(errors="replace").splitlines():
        match = re.fullmatch(r"([0-9a-f]{64}) [ *](\S+)", line)
        if match:
            found[match[2].removeprefix("./")] = match[1]
    return found


def _size(url: str) -> int:
    try:
        response = _pool(url).request("HEAD", url)
    except urllib3.exceptions.HTTPError as error:
        raise _unreachable(f"cannot fetch {url}: {_reason(error)}") from None
    length = response.headers.get("Content-Length", "")
    if response.status != 200 or not length.isdigit() or not int(length):
        raise _unreachable(f"{url} cannot be asked for its size: status {response.status}")
    if int(length) > MAX_PROGRAM:
        raise DownloadError(f"{url} is said to have {length} bytes, which no archive has")
    return int(length)
