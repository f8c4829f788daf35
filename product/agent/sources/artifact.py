"""Fetching a release's artifacts from a source: bounded, resumable, verified while they stream.

What the source says is never trusted: the size and SHA-256 of an artifact come from the signed
manifest, and every way of answering that does not lead to exactly those bytes is an error with a
name. Because the size is signed, a rest is asked for by its first and last byte: many servers
refuse a range without an end. One that refuses ranges at all is asked for the whole file, of which
what is there already is passed over, so that no answer takes away what has come.

Codes of the errors: those of product.agent.sources.exchange, ``server-unreachable`` also for one
that breaks off or is too slow; ``size-mismatch``, ``digest-mismatch``, ``no-space``,
``write-failed``.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import time
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from product.agent.errors import AgentError
from product.agent.net.connections import TransientError
from product.agent.sources.exchange import (
    check_status,
    page_error,
    says_page,
)
from product.agent.sources.protocol import (
    DEFAULT_POLICY,
    FetchPolicy,
    Progress,
    place,
    wait_before,
)
from product.agent.system.direct_io import Writeback

if TYPE_CHECKING:
    from product.agent.sources.protocol import Answer, Source
    from product.manifest import Artifact

_CHUNK = 256 * 1024


def fetch_artifact(
    source: Source,
    artifact: Artifact,
    dest: str,
    *,
    progress: Progress | None = None,
    rate_limit: int | None = None,
    policy: FetchPolicy = DEFAULT_POLICY,
    interrupt: Callable[[], None] | None = None,
) -> int:
    """Bring ``artifact`` to ``dest``, going on from what an earlier fetch left there.

    ``progress(done, total)`` is called in bytes; ``rate_limit`` is in bytes a second;
    ``interrupt`` is called between pieces, and raises what ends the fetch. Returns the CRC-32 of
    what was written, after it had the manifest's size and SHA-256 and the disk was told to keep it;
    reading it back is the caller's. Raises AgentError: after ``digest-mismatch`` the file is gone,
    after every other code what has come so far stays for the next fetch.
    """
    try:
        descriptor = os.open(dest, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fetch = _Fetch(source, artifact, descriptor, progress, rate_limit, policy, interrupt)
            checksum = fetch.run()
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
        if error.code == "digest-mismatch":
            with contextlib.suppress(FileNotFoundError):
                os.unlink(dest)
        raise


class _Fetch:
    """One artifact on its way into one open file."""

    def __init__(
        self,
        source: Source,
        artifact: Artifact,
        descriptor: int,
        progress: Progress | None,
        rate_limit: int | None,
        policy: FetchPolicy,
        interrupt: Callable[[], None] | None,
    ) -> None:
        self._source = source
        self._path = f"artifacts/{artifact.sha256}"
        self._url = place(source, self._path)
        self._artifact = artifact
        self._descriptor = descriptor
        self._progress = progress
        self._rate_limit = rate_limit
        self._policy = policy
        self._interrupt = interrupt or (lambda: None)
        # Twice what the limit asks for is no less patient than without one.
        limited = 2 * artifact.size / rate_limit if rate_limit else 0.0
        self._total = max(policy.total, limited)
        self._deadline = time.monotonic() + self._total
        self._done = 0
        self._hash = hashlib.sha256()
        self._checksum = 0
        self._writeback = Writeback(descriptor)
        # Bytes that came from an earlier fetch, whose fault a wrong digest may be.
        self._inherited = 0
        # Whether this server's answers to a range can be used, as far as is known.
        self._ranges = True
        # Bytes of all bodies, also of what is there already.
        self._received = 0

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
        fruitless = requests = 0
        while self._done < self._artifact.size:
            before = self._done
            requests += 1
            try:
                self._request()
                error = TransientError(f"{self._url} broke off: {self._state()}")
            except TransientError as caught:
                error = caught
            if self._done == self._artifact.size:
                return
            fruitless = 0 if self._done > before else fruitless + 1
            wait = wait_before(self._policy, fruitless, error.retry_after)
            if (
                fruitless >= self._policy.tries
                or requests >= self._policy.requests
                or (error.retry_after or 0) > self._policy.heed
                or time.monotonic() + wait > self._deadline
            ):
                raise AgentError(
                    f"{error.message}; gave up after {requests} requests with {self._state()}",
                    code=error.code,
                    hint=error.hint or "check the network; the next try goes on from there",
                )
            self._source.pause(wait)

    def _state(self) -> str:
        return f"{self._done} of {self._artifact.size} bytes of {self._artifact.name}"

    def _request(self) -> None:
        ranged = bool(self._done and self._ranges)
        until = min(self._deadline, time.monotonic() + self._policy.answer)
        if ranged:
            last = self._artifact.size - 1
            response = self._source.open(self._path, start=self._done, end=last, until=until)
        else:
            response = self._source.open(self._path, until=until)
        try:
            passed_over = self._accept(response, ranged)
            if passed_over is not None:
                self._stream(response, passed_over)
        finally:
            response.close()

    def _accept(self, response: Answer, ranged: bool) -> int | None:
        """How many bytes of the body of ``response`` are here already; None where it is of no use,
        and the next request asks for the whole file."""
        if response.status == 416 and ranged:
            total = _content_range(response)[1]
            if total is not None:
                self._check_size(total)
            self._ranges = False
            return None
        check_status(response, self._url, self._source.setting)
        if response.status == 206 and ranged:
            start, total = _content_range(response)
            if total is not None:
                self._check_size(total)
            if start != self._done:
                # It does not say truly what it sends.
                self._ranges = False
                return None
            return 0
        if response.status != 200:
            raise TransientError(f"{self._url} answered {response.status} to a plain request")
        length = _length(response)
        if says_page(response) and length != self._artifact.size:
            raise page_error(self._url, self._source.setting)
        if length is not None:
            self._check_size(length)
        return self._done

    def _check_size(self, size: int) -> None:
        if size != self._artifact.size:
            raise AgentError(
                f"{self._url} is {size} bytes, the release's {self._artifact.name} is "
                f"{self._artifact.size}",
                code="size-mismatch",
                hint="the server's copy is damaged or was tampered with; tell whoever publishes it",
            )

    def _stream(self, response: Answer, passed_over: int) -> None:
        """Keep the body, but for its first bytes, which are here already."""
        began = window_began = time.monotonic()
        received = window_received = 0
        slowest, most = self._policy.slowest, _CHUNK
        if self._rate_limit:
            slowest = min(slowest, self._rate_limit // 2)
            # No sleep is long, and no server waits so long for its bytes to be taken.
            most = min(most, max(self._rate_limit // 4, 1))
        while True:
            self._interrupt()
            response.allow(self._policy.silence)
            chunk = response.read1(most)
            if not chunk:
                return
            self._count_received(len(chunk))
            received += len(chunk)
            window_received += len(chunk)
            self._keep(memoryview(chunk)[passed_over:])
            passed_over = max(passed_over - len(chunk), 0)
            if self._rate_limit:
                ahead = received / self._rate_limit - (time.monotonic() - began)
                if ahead > 0:
                    time.sleep(ahead)
            now = time.monotonic()
            if now > self._deadline:
                raise TransientError(f"{self._url} took longer than {self._total:.0f} s")
            if now - window_began >= self._policy.window:
                if window_received < slowest * (now - window_began):
                    raise TransientError(
                        f"{self._url} sent {window_received} bytes in {now - window_began:.0f} s, "
                        f"less than {slowest} a second"
                    )
                window_began, window_received = now, 0

    def _count_received(self, count: int) -> None:
        self._received += count
        if self._received > self._policy.multiple * self._artifact.size:
            raise AgentError(
                f"{self._url} was sent {self._policy.multiple} times over, and there are "
                f"{self._state()}",
                code="server-unreachable",
                hint="the connection breaks, and the server cannot go on where it did: it ought to "
                "answer to ranges; the next try goes on from there",
            )

    def _keep(self, view: memoryview) -> None:
        if self._done + len(view) > self._artifact.size:
            raise AgentError(
                f"{self._url} sends more than the {self._artifact.size} bytes that the "
                f"release's {self._artifact.name} has",
                code="size-mismatch",
            )
        while view:
            # Hashed piece by piece, so that hash and file agree even where the disk fills up.
            written = os.write(self._descriptor, view)
            self._count(view[:written])
            view = view[written:]
        self._writeback.written(self._done)
        if self._progress is not None:
            self._progress(self._done, self._artifact.size)


def _content_range(response: Answer) -> tuple[int | None, int | None]:
    """First byte and whole size from ``Content-Range: bytes 5-9/10`` or ``bytes */10``."""
    unit, _, rest = (response.header("Content-Range") or "").strip().partition(" ")
    span, _, total = rest.partition("/")
    start = span.partition("-")[0]
    if unit.lower() != "bytes":
        return None, None
    return _number(start), _number(total)


def _length(response: Answer) -> int | None:
    return _number(response.header("Content-Length") or "")


def _number(text: str) -> int | None:
    text = text.strip()
    # More digits than any file's size has, and int() refuses to parse thousands of them.
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None
