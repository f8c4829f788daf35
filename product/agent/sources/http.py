"""Fetching a release's artifacts over HTTP: bounded, resumable, verified while they stream.

What the server says is never trusted: the size and SHA-256 of an artifact come from the signed
manifest, and every way of answering that does not lead to exactly those bytes is an error with a
name. Knows nothing of TUF; ``open_url`` is what the trust layer fetches metadata with.

Codes of the errors: ``no-server``, ``server-unreachable`` (also: refuses, breaks off, too slow),
``bad-redirect``, ``captive-portal``, ``size-mismatch``, ``digest-mismatch``, ``no-space``,
``write-failed``.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import time
import zlib
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from product.agent.errors import AgentError
from product.agent.net.connections import Connections, Response, TransientError
from product.agent.sources.protocol import DEFAULT_POLICY, FetchPolicy, Progress
from product.agent.system.direct_io import Writeback

if TYPE_CHECKING:
    from product.manifest import Artifact

MAX_REDIRECTS = 5
_CHUNK = 256 * 1024
_REDIRECTS = (301, 302, 303, 307, 308)
# Answers that another try may better: time-outs, too many requests, and every server error.
_TRANSIENT = (408, 425, 429)


class HttpStatusError(AgentError):
    """The server answered, but not with the file; ``status`` is its HTTP status."""

    code = "server-unreachable"

    def __init__(self, message: str, *, status: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


def server_url(server: str | None, path: str) -> str:
    """``path`` under the configured ``server``; raises AgentError unless that is HTTP or HTTPS, or
    a volume (product.agent.sources.volume)."""
    if not server:
        raise AgentError(
            "no release server is configured",
            code="no-server",
            hint="set server= in update.conf, or pass --server",
        )
    if server.startswith("disk:"):
        return f"{server.rstrip('/')}/{path}"
    try:
        parts = urlsplit(server)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment:
        raise AgentError(
            f"{server!r} is not the address of a release server",
            code="no-server",
            hint="it must look like https://releases.example.com/kubesolo",
        )
    return f"{server.rstrip('/')}/{path}"


def new_connections(policy: FetchPolicy = DEFAULT_POLICY, url: str = "") -> Connections:
    """Connections as patient as ``policy``, for what ``url`` is; use as a context manager."""
    if url.startswith("disk:"):
        from product.agent.sources.volume import VolumeConnections

        return VolumeConnections(connect=policy.connect, silence=policy.silence)
    return Connections(connect=policy.connect, silence=policy.silence)


def open_url(connections: Connections, url: str, headers: dict[str, str] | None = None) -> Response:
    """GET ``url`` with its body unread, following redirects that keep the scheme.

    Raises TransientError where the server cannot be reached and AgentError ``bad-redirect``; any
    other status than a redirect is returned. The caller closes the response.
    """
    scheme = urlsplit(url).scheme
    asked = {"Accept-Encoding": "identity", "User-Agent": "kubesolo-update"} | (headers or {})
    current = url
    for _ in range(MAX_REDIRECTS + 1):
        response = connections.get(current, asked)
        location = response.header("Location")
        if response.status not in _REDIRECTS or location is None:
            return response
        response.close()
        current = _follow(current, location, scheme)
    raise AgentError(f"{url} redirects more than {MAX_REDIRECTS} times", code="bad-redirect")


def _follow(current: str, location: str, scheme: str) -> str:
    try:
        following = urljoin(current, location)
        parts = urlsplit(following)
        usable = parts.scheme == scheme and bool(parts.hostname) and parts.port != 0
    except ValueError:
        following, usable = location, False
    if usable:
        return following
    raise AgentError(
        f"{current} redirects to {following!r}, and only {scheme} is followed from there",
        code="bad-redirect",
        hint="set server= to the address that the releases really have",
    )


def check_status(response: Response, url: str) -> None:
    """Raise HttpStatusError, or TransientError where waiting may help, for an error status."""
    status = response.status
    if status < 400 and status not in _REDIRECTS:
        return
    if status >= 500 or status in _TRANSIENT:
        raise TransientError(f"{url} answered {status}", hint="try again later")
    raise HttpStatusError(
        f"{url} answered {status}", status=status, hint="check server= in update.conf"
    )


def fetch_artifact(
    server: str | None,
    artifact: Artifact,
    dest: str,
    *,
    progress: Progress | None = None,
    rate_limit: int | None = None,
    policy: FetchPolicy = DEFAULT_POLICY,
) -> int:
    """Bring ``artifact`` to ``dest``, going on from what an earlier fetch left there.

    ``progress(done, total)`` is called in bytes; ``rate_limit`` is in bytes a second. Returns the
    CRC-32 of what was written, after it had the manifest's size and SHA-256 and the disk was told
    to keep it; reading it back is the caller's. Raises AgentError: after ``size-mismatch`` and
    ``digest-mismatch`` the file is gone, after every other code what has come so far stays for
    the next fetch.
    """
    url = server_url(server, f"artifacts/{artifact.sha256}")
    try:
        descriptor = os.open(dest, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            checksum = _Fetch(url, artifact, descriptor, progress, rate_limit, policy).run()
            os.fsync(descriptor)
            return checksum
        finally:
            os.close(descriptor)
    except OSError as error:
        code = "no-space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "write-failed"
        raise AgentError(
            f"cannot write {artifact.name} to {dest}: {error.strerror}", code=code
        ) from None
    except AgentError as error:
        if error.code in ("size-mismatch", "digest-mismatch"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(dest)
        raise


class _Fetch:
    """One artifact on its way into one open file."""

    def __init__(
        self,
        url: str,
        artifact: Artifact,
        descriptor: int,
        progress: Progress | None,
        rate_limit: int | None,
        policy: FetchPolicy,
    ) -> None:
        self._url = url
        self._artifact = artifact
        self._descriptor = descriptor
        self._progress = progress
        self._rate_limit = rate_limit
        self._policy = policy
        self._deadline = time.monotonic() + policy.total
        self._done = 0
        self._hash = hashlib.sha256()
        self._checksum = 0
        self._writeback = Writeback(descriptor)
        # Bytes that came from an earlier fetch, whose fault a wrong digest may be.
        self._inherited = 0

    def run(self) -> int:
        """Fetch, and where a wrong digest may be an earlier fetch's fault, fetch once more."""
        self._take_over()
        self._complete()
        if not self._matches() and self._inherited:
            self._restart()
            self._complete()
        if self._matches():
            return self._checksum
        raise AgentError(
            f"{self._url} sent other bytes than the release's {self._artifact.name}: SHA-256 "
            f"{self._hash.hexdigest()}",
            code="digest-mismatch",
            hint="the server's copy is damaged or was tampered with; tell whoever publishes it",
        )

    def _matches(self) -> bool:
        return self._hash.hexdigest() == self._artifact.sha256

    def _take_over(self) -> None:
        size = os.fstat(self._descriptor).st_size
        if size > self._artifact.size:
            self._restart()
            return
        while self._done < size and (chunk := os.read(self._descriptor, _CHUNK)):
            self._count(chunk)
        self._inherited = self._done
        self._writeback = Writeback(self._descriptor, self._done)

    def _restart(self) -> None:
        os.ftruncate(self._descriptor, 0)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        self._hash = hashlib.sha256()
        self._checksum = 0
        self._writeback = Writeback(self._descriptor)
        self._done = self._inherited = 0

    def _count(self, data: bytes | memoryview) -> None:
        self._hash.update(data)
        self._checksum = zlib.crc32(data, self._checksum)
        self._done += len(data)

    def _complete(self) -> None:
        """Ask until all bytes are here, within the policy's bounds."""
        fruitless = 0
        requests = 0
        with new_connections(self._policy, self._url) as connections:
            while self._done < self._artifact.size:
                before = self._done
                requests += 1
                try:
                    self._request(connections)
                    error = TransientError(f"{self._url} broke off: {self._state()}")
                except TransientError as caught:
                    error = caught
                if self._done > before:
                    fruitless = 0
                    if self._done == self._artifact.size:
                        return
                else:
                    fruitless += 1
                wait = min(
                    self._policy.first_wait * 2 ** max(fruitless - 1, 0), self._policy.longest_wait
                )
                if (
                    fruitless >= self._policy.tries
                    or requests >= self._policy.requests
                    or time.monotonic() + wait > self._deadline
                ):
                    raise AgentError(
                        f"{error.message}; gave up after {requests} requests with {self._state()}",
                        code=error.code,
                        hint=error.hint or "check the network; the next try goes on from there",
                    )
                time.sleep(wait)

    def _state(self) -> str:
        return f"{self._done} of {self._artifact.size} bytes of {self._artifact.name}"

    def _request(self, connections: Connections) -> None:
        headers = {"Range": f"bytes={self._done}-"} if self._done else {}
        response = open_url(connections, self._url, headers)
        try:
            if not self._accept(response):
                return
            self._stream(response)
        finally:
            response.close()

    def _accept(self, response: Response) -> bool:
        """Make ready for the body of ``response``; False where the next request begins anew."""
        if response.status == 416 and self._done:
            total = _content_range(response)[1]
            if total is not None:
                self._check_size(total)
            self._restart()
            return False
        check_status(response, self._url)
        if response.status == 206 and self._done:
            start, total = _content_range(response)
            if total is not None:
                self._check_size(total)
            if start != self._done:
                # It does not say truly what it sends, so a whole file is asked for instead.
                self._restart()
                return False
            return True
        if response.status != 200:
            raise TransientError(f"{self._url} answered {response.status} to a plain request")
        self._refuse_portal(response)
        length = _length(response)
        if length is not None:
            self._check_size(length)
        if self._done:
            self._restart()
        return True

    def _check_size(self, size: int) -> None:
        if size != self._artifact.size:
            raise AgentError(
                f"{self._url} is {size} bytes, the release's {self._artifact.name} is "
                f"{self._artifact.size}",
                code="size-mismatch",
                hint="the server's copy is damaged or was tampered with; tell whoever publishes it",
            )

    def _refuse_portal(self, response: Response) -> None:
        kind = (response.header("Content-Type") or "").partition(";")[0].strip().lower()
        if kind in ("text/html", "application/xhtml+xml") and (
            _length(response) != self._artifact.size
        ):
            raise AgentError(
                f"{self._url} answered with a web page instead of the file",
                code="captive-portal",
                hint="a login page of the network may be in between; else check server=",
            )

    def _stream(self, response: Response) -> None:
        began = window_began = time.monotonic()
        received = window_received = 0
        slowest = self._policy.slowest
        if self._rate_limit:
            slowest = min(slowest, self._rate_limit // 2)
        while True:
            chunk = response.read1(_CHUNK)
            if not chunk:
                return
            if self._done + len(chunk) > self._artifact.size:
                raise AgentError(
                    f"{self._url} sends more than the {self._artifact.size} bytes that the "
                    f"release's {self._artifact.name} has",
                    code="size-mismatch",
                )
            self._keep(chunk)
            received += len(chunk)
            window_received += len(chunk)
            if self._rate_limit:
                ahead = received / self._rate_limit - (time.monotonic() - began)
                if ahead > 0:
                    time.sleep(ahead)
            now = time.monotonic()
            if now > self._deadline:
                raise TransientError(f"{self._url} took longer than {self._policy.total:.0f} s")
            if now - window_began >= self._policy.window:
                if window_received < slowest * (now - window_began):
                    raise TransientError(
                        f"{self._url} sent {window_received} bytes in {now - window_began:.0f} s, "
                        f"less than {slowest} a second"
                    )
                window_began, window_received = now, 0

    def _keep(self, chunk: bytes) -> None:
        view = memoryview(chunk)
        while view:
            # Hashed piece by piece, so that hash and file agree even where the disk fills up.
            written = os.write(self._descriptor, view)
            self._count(view[:written])
            view = view[written:]
        self._writeback.written(self._done)
        if self._progress is not None:
            self._progress(self._done, self._artifact.size)


def _content_range(response: Response) -> tuple[int | None, int | None]:
    """First byte and whole size from ``Content-Range: bytes 5-9/10`` or ``bytes */10``."""
    unit, _, rest = (response.header("Content-Range") or "").strip().partition(" ")
    span, _, total = rest.partition("/")
    start = span.partition("-")[0]
    if unit.lower() != "bytes":
        return None, None
    return _number(start), _number(total)


def _length(response: Response) -> int | None:
    return _number(response.header("Content-Length") or "")


def _number(text: str) -> int | None:
    text = text.strip()
    # More digits than any file's size has, and int() refuses to parse thousands of them.
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None
