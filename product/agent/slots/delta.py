"""Making an artifact from an older one and a delta, in little memory and in one pass.

A delta describes the new file as a list of records, in the new file's order. Blocks of a squashfs
that did not change have the same bytes in both files, and are copied. Of blocks that did, the
delta holds the content, as a Zstandard frame that refers to the content of old blocks; the node
compresses each again as mksquashfs did, with the same library, and so gets the same bytes.
Everything else is in the delta as it is.

Format: ``KSDELTA1``, a header (HEADER), records. A record is a byte and numbers, as LEB128; signed
ones are zigzag::

    COPY  distance from the end of the copy before, length   bytes of the old file
    LOAD  references, content length, frame length, for each reference: distance from the end of
          the one before, length * 2 + stored, length of its content; then the frame
    EMIT  mode, count, length   so many pieces of the loaded content, each of that length
    END

A reference is an old block: ``stored`` means as it is, otherwise it is a Zstandard frame. Modes:
PLAIN as it is; BLOCK compressed; META compressed, behind its length in two bytes. Content is
consumed in order, and to its end before the next LOAD.

Whoever wrote a delta is not trusted: each number is checked against the old file, the artifact and
the bounds below, which also bound the memory, and the result must have the artifact's SHA-256.

Codes of the errors: ``delta-damaged``, ``delta-mismatch`` (the result is another file: the delta,
or the file that it started from, is not what it should be), ``delta-slow``, ``delta-unsupported``
(this system lacks the library, or has another version), ``delta-unreadable``.
"""

from __future__ import annotations

import hashlib
import os
import struct
import time
import zlib
from collections.abc import Callable
from typing import BinaryIO, NamedTuple

from product.agent.errors import AgentError
from product.agent.slots.zstd import Buffer, Zstd, ZstdError
from product.agent.system.direct_io import Writeback
from product.agent.system.files import write_all
from product.manifest import Artifact

MAGIC = b"KSDELTA1"
# Size of the new file, all content of LOADs, all content of references; the block size of the file
# system, the level it was compressed with, and the number of libzstd's version that compressed it:
# all three are 0 where the file is none. Another version may make other bytes.
HEADER = struct.Struct("<QQQIBI")
END, COPY, LOAD, EMIT = range(4)
PLAIN, BLOCK, META = range(3)

# What one LOAD may bring: the node's memory. A block with what it refers to is always less.
MAX_CONTENT = 4 * 1024 * 1024
MAX_REFERENCE = 8 * 1024 * 1024
MAX_REFERENCES = 4096
# A frame of content that does not compress is a little longer than the content.
MAX_FRAME = MAX_CONTENT + 64 * 1024
MAX_BLOCK = 1024 * 1024
META_BLOCK = 8192
# Buffers of both kinds, the library's contexts and Python's own needs, in bytes.
MEMORY = 40 * 1024 * 1024

_CHUNK = 1024 * 1024
_STORED_META = 0x8000
# Bytes that a number may take: 63 bits.
_LONGEST = 9
# What is measured for less time than this says nothing about what is left.
_SETTLED = 1.0


class DeltaError(AgentError):
    """A delta did not lead to the artifact; the artifact itself can still be fetched."""

    code = "delta-damaged"


class Applied(NamedTuple):
    """``checksum`` is the CRC-32 of what was written, ``seconds`` what it took."""

    checksum: int
    seconds: float


def apply_delta(
    delta: str,
    source: str,
    artifact: Artifact,
    destination: str,
    *,
    budget: float | None = None,
    interrupt: Callable[[], None] | None = None,
    library: str | None = None,
) -> Applied:
    """Write ``artifact`` to ``destination``, made of ``source`` and ``delta``.

    It is given up where it takes more than ``budget`` seconds, or would. ``interrupt`` is called
    between records. What is at ``destination`` after an error is of no use, but after
    ``delta-slow``: then it is the beginning of the artifact. Raises DeltaError, OSError.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    try:
        with open(delta, "rb") as stream, open(source, "rb", buffering=0) as old:
            target = os.open(destination, flags, 0o644)
            try:
                with Zstd(library) as zstd:
                    run = _Run(stream, old, target, artifact, zstd, budget, interrupt)
                    applied = run.all()
                os.fsync(target)
                return applied
            finally:
                os.close(target)
    except ZstdError as error:
        code = "delta-unsupported" if "cannot be used" in str(error) else "delta-damaged"
        raise DeltaError(f"the delta of {artifact.name}: {error}", code=code) from None
    except MemoryError:
        raise DeltaError(
            f"there is no memory for the delta of {artifact.name}", code="delta-unsupported"
        ) from None


class _Run:
    """One delta on its way."""

    def __init__(
        self,
        stream: BinaryIO,
        old: BinaryIO,
        target: int,
        artifact: Artifact,
        zstd: Zstd,
        budget: float | None,
        interrupt: Callable[[], None] | None,
    ) -> None:
        self._stream = stream
        self._old = old.fileno()
        self._old_size = os.fstat(self._old).st_size
        self._target = target
        self._artifact = artifact
        self._zstd = zstd
        self._budget = budget
        self._interrupt = interrupt or (lambda: None)
        self._begin = time.monotonic()
        self._hash = hashlib.sha256()
        self._checksum = self._done = 0
        self._writeback = Writeback(target)
        self._content = Buffer(MAX_CONTENT)
        self._reference = Buffer(MAX_REFERENCE)
        self._frame = Buffer(MAX_FRAME)
        self._loaded = self._used = 0
        self._copied_to = self._referred_to = 0

    def all(self) -> Applied:
        """Follow the records to the end, then compare."""
        self._read_header()
        steps = {COPY: self._copy, LOAD: self._load, EMIT: self._emit}
        while (kind := self._bytes(1)[0]) != END:
            if kind not in steps:
                raise self._damaged(f"a record of the kind {kind}")
            self._interrupt()
            steps[kind]()
            self._require_in_time()
        if self._used != self._loaded:
            raise self._damaged("content that is never used")
        found = self._hash.hexdigest()
        if self._done != self._artifact.size or found != self._artifact.sha256:
            raise DeltaError(
                f"the delta of {self._artifact.name} leads to {self._done} bytes with SHA-256 "
                f"{found}, not to the release's {self._artifact.size} bytes",
                code="delta-mismatch",
                hint="the running slot's file or the delta is damaged; the whole file is fetched",
            )
        return Applied(self._checksum, time.monotonic() - self._begin)

    def _read_header(self) -> None:
        if self._bytes(len(MAGIC)) != MAGIC:
            raise self._damaged("no delta of this format")
        size, content, reference, block, level, version = HEADER.unpack(self._bytes(HEADER.size))
        if size != self._artifact.size:
            raise self._damaged(f"a delta to {size} bytes, not to {self._artifact.size}")
        if block > MAX_BLOCK or level > 22:
            raise self._damaged(f"blocks of {block} bytes, level {level}")
        if version not in (0, self._zstd.version):
            raise DeltaError(
                f"the delta of {self._artifact.name} needs libzstd number {version}, this system "
                f"has {self._zstd.version}",
                code="delta-unsupported",
            )
        self._content_left, self._reference_left = content, reference
        self._work = self._work_left = content + reference
        self._block, self._level = block, level

    def _copy(self) -> None:
        at = self._copied_to + self._signed()
        length = self._number()
        self._require_old(at, length)
        self._copied_to = at + length
        while length:
            piece = os.pread(self._old, min(length, _CHUNK), at)
            if not piece:
                raise self._damaged("a copy from behind the old file's end")
            self._write(piece)
            os.posix_fadvise(self._old, at, len(piece), os.POSIX_FADV_DONTNEED)
            at += len(piece)
            length -= len(piece)

    def _load(self) -> None:
        if self._used != self._loaded:
            raise self._damaged("content that is never used")
        count, content, frame = self._number(), self._number(), self._number()
        if count > MAX_REFERENCES or content > MAX_CONTENT or frame > MAX_FRAME:
            raise self._damaged(
                f"{count} references, {content} bytes of content and a frame of {frame}"
            )
        filled = 0
        for _ in range(count):
            filled += self._refer(filled)
        self._take(content + filled, content)
        self._fill(frame)
        prefix = (self._reference, filled) if filled else None
        found = self._zstd.decompress(self._frame, 0, frame, self._content, 0, content, prefix)
        if found != content:
            raise self._damaged(f"{found} bytes of content instead of {content}")
        self._loaded, self._used = content, 0

    def _refer(self, filled: int) -> int:
        """Append the content of one old block to the reference: how long it is."""
        at = self._referred_to + self._signed()
        length, stored = divmod(self._number(), 2)
        content = self._number()
        self._require_old(at, length)
        if length > MAX_BLOCK or content > MAX_BLOCK or filled + content > MAX_REFERENCE:
            raise self._damaged(f"a reference to {length} bytes that are {content}")
        self._referred_to = at + length
        if stored and content != length:
            raise self._damaged(f"a stored reference to {length} bytes that are {content}")
        into = self._reference if stored else self._frame
        begin = filled if stored else 0
        with into.view[begin : begin + length] as view:
            if os.preadv(self._old, [view], at) != length:
                raise self._damaged("a reference behind the old file's end")
        if not stored:
            found = self._zstd.decompress(self._frame, 0, length, self._reference, filled, content)
            if found != content:
                raise self._damaged(f"an old block of {found} bytes instead of {content}")
        return content

    def _emit(self) -> None:
        mode, count, length = self._number(), self._number(), self._number()
        limit = {PLAIN: MAX_CONTENT, BLOCK: self._block, META: META_BLOCK}.get(mode, 0)
        if not 0 < length <= limit or count * length > self._loaded - self._used:
            raise self._damaged(f"{count} pieces of {length} bytes, mode {mode}")
        for _ in range(count):
            if mode == PLAIN:
                with self._content.view[self._used : self._used + length] as view:
                    self._write(view)
            else:
                self._compress(mode, length)
            self._used += length

    def _compress(self, mode: int, length: int) -> None:
        capacity = META_BLOCK if mode == META else self._block
        count = self._zstd.compress_block(
            self._content, self._used, length, self._frame, capacity, self._level
        )
        if not count:
            raise self._damaged("a block that does not get smaller")
        if mode == META:
            self._write(struct.pack("<H", count))
        with self._frame.view[:count] as view:
            self._write(view)

    def _write(self, data: bytes | memoryview) -> None:
        if self._done + len(data) > self._artifact.size:
            raise self._damaged(f"more than the artifact's {self._artifact.size} bytes")
        self._hash.update(data)
        self._checksum = zlib.crc32(data, self._checksum)
        write_all(self._target, data)
        self._done += len(data)
        self._writeback.written(self._done)

    def _take(self, work: int, content: int) -> None:
        """Count what was announced: more of it never comes."""
        self._content_left -= content
        self._reference_left -= work - content
        self._work_left -= work
        if self._content_left < 0 or self._reference_left < 0:
            raise self._damaged("more content than the header says")

    def _require_in_time(self) -> None:
        """Raise DeltaError where the time is over, or what is left takes more of it."""
        if self._budget is None:
            return
        spent = time.monotonic() - self._begin
        worked = self._work - self._work_left
        left = spent / worked * self._work_left if worked and spent > _SETTLED else 0.0
        if spent + left > self._budget:
            raise DeltaError(
                f"applying the delta of {self._artifact.name} takes {spent + left:.0f} s or more "
                f"here, {self._budget:.0f} are saved by it",
                code="delta-slow",
                hint="the whole file is fetched; deltas=no in update.conf does so at once",
            )

    def _require_old(self, at: int, length: int) -> None:
        if not 0 <= at <= at + length <= self._old_size:
            raise self._damaged(f"{length} bytes at {at} of an old file of {self._old_size}")

    def _fill(self, length: int) -> None:
        done = 0
        with self._frame.view[:length] as view:
            while done < length:
                with view[done:] as rest:
                    count = self._stream.readinto(rest)  # type: ignore[attr-defined]
                if not count:
                    raise self._damaged("it ends in the middle of a frame")
                done += count

    def _bytes(self, length: int) -> bytes:
        data = self._stream.read(length)
        if len(data) != length:
            raise self._damaged("it ends too early")
        return data

    def _number(self) -> int:
        value = 0
        for position in range(_LONGEST):
            byte = self._bytes(1)[0]
            value |= (byte & 0x7F) << (7 * position)
            if byte < 0x80:
                return value
        raise self._damaged("a number without an end")

    def _signed(self) -> int:
        value = self._number()
        return (value >> 1) ^ -(value & 1)

    def _damaged(self, what: str) -> DeltaError:
        return DeltaError(f"the delta of {self._artifact.name} is damaged: {what}")
