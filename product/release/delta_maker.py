"""Making a delta: ``python3 -m product.release.delta_maker OLD NEW OUT [LIBZSTD]``.

A program of its own, because it runs under the locked Python with the locked libzstd (see
``deltas``): the bytes that it writes, and those that a node makes of them, depend on that library
alone. It uses the standard library, and the code of the node to apply what it made. It prints one
line of JSON: how long it took, and what is in the delta.

For the format, see product.agent.slots.delta. A block that is in both files is copied. The others
are put together to groups of content, and each group refers to the old blocks that are most like
it: those that lie where it lies between copied ones, and those that share sequences of bytes with
it, looked for at positions that the content itself chooses.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from product.agent.slots.delta import (
    BLOCK,
    COPY,
    EMIT,
    END,
    HEADER,
    LOAD,
    MAGIC,
    MAX_CONTENT,
    MAX_REFERENCE,
    META,
    META_BLOCK,
    PLAIN,
    apply_delta,
)
from product.agent.slots.zstd import Buffer, Zstd
from product.manifest import Artifact
from product.release import squashfs

LEVEL = 19
# 16 MiB: content and reference together.
_WINDOW = 24
# A file that is no squashfs is cut into pieces of this size.
_PIECE = 64 * 1024
# Where to look for what two blocks share: about one position in 400, whatever the content is.
_ANCHOR = re.compile(rb"[\x03\x18\x41\x5f\x63\x74\x8b\xc0\xe8][\x00\x0f\x24\x48\x65\x6c\x83\xff]")
_ANCHOR_LENGTH = 16
# Each compressor takes about 150 MB.
_MOST_THREADS = 4
# A sequence that is in so many old blocks says nothing about where it comes from.
_COMMON = 4


class Piece(NamedTuple):
    """``length`` bytes at ``offset`` of a file. ``mode``: how its content becomes these bytes."""

    offset: int
    length: int
    mode: int


class File:
    """One of the two files, as pieces that cover it."""

    def __init__(self, data: bytes, zstd: Zstd) -> None:
        self.data = data
        self._zstd = zstd
        self._in, self._out = Buffer(1 << 20), Buffer(1 << 20)
        self.block_size = self.level = 0
        if data[:4] == squashfs.MAGIC:
            image = squashfs.read_image(data, self._decompress)
            self.block_size, self.level = image.block_size, image.level
            self.pieces = list(_covering(image, len(data)))
        else:
            starts = range(0, len(data), _PIECE)
            self.pieces = [Piece(at, min(_PIECE, len(data) - at), PLAIN) for at in starts]

    def bytes_of(self, piece: Piece) -> bytes:
        """The piece as it lies in the file."""
        return self.data[piece.offset : piece.offset + piece.length]

    def content(self, piece: Piece) -> bytes:
        """What the piece holds."""
        raw = self.bytes_of(piece)
        if piece.mode == PLAIN:
            return raw
        return self._decompress(raw[2:] if piece.mode == META else raw, 1 << 20)

    def comes_back(self, piece: Piece, content: bytes) -> bool:
        """Whether a node makes the piece's own bytes of its content."""
        capacity = META_BLOCK if piece.mode == META else self.block_size
        if len(content) > capacity:
            return False
        self._in.view[: len(content)] = content
        count = self._zstd.compress_block(
            self._in, 0, len(content), self._out, capacity, self.level
        )
        own = self.bytes_of(piece)[2 if piece.mode == META else 0 :]
        return count > 0 and bytes(self._out.view[:count]) == own

    def _decompress(self, data: bytes, most: int) -> bytes:
        self._in.view[: len(data)] = data
        count = self._zstd.decompress(self._in, 0, len(data), self._out, 0, most)
        return bytes(self._out.view[:count])


def _covering(image: squashfs.Image, size: int) -> Iterator[Piece]:
    """The image's blocks, and what lies between them."""
    end = 0
    for block in image.blocks:
        yield from _plain(end, block.offset)
        if block.stored:
            yield Piece(block.offset, block.length, PLAIN)
        else:
            yield Piece(block.offset, block.length, META if block.meta else BLOCK)
        end = block.offset + block.length
    yield from _plain(end, size)


def _plain(begin: int, end: int) -> Iterator[Piece]:
    for at in range(begin, end, MAX_CONTENT):
        yield Piece(at, min(MAX_CONTENT, end - at), PLAIN)


class _Step(NamedTuple):
    """Of one new piece: the old piece with the same bytes, or its content and mode."""

    old: int | None
    content: bytes = b""
    mode: int = PLAIN


class _Load(NamedTuple):
    """A LOAD whose frame is being made; ``listed`` are its references, as the record has them."""

    references: int
    listed: bytes
    length: int
    frame: Future[bytes]

    def record(self) -> bytes:
        """The whole record, when the frame is there."""
        frame = self.frame.result()
        head = bytes([LOAD]) + _numbers(self.references, self.length, len(frame))
        return head + self.listed + frame


class Maker:
    """Writes one delta; ``figures`` says what is in it."""

    def __init__(self, old: bytes, new: bytes, zstd: Zstd) -> None:
        self._zstd = zstd
        self._old, self._new = File(old, zstd), File(new, zstd)
        self._copied_to = self._referred_to = 0
        self._contents: dict[int, bytes] = {}
        self.figures = {"copied": 0, "content": 0, "reference": 0, "literal": 0, "groups": 0}

    def make(self) -> bytes:
        """The delta."""
        places = {_key(self._old, piece): at for at, piece in enumerate(self._old.pieces)}
        same = [places.get(_key(self._new, piece)) for piece in self._new.pieces]
        copied = {at for at in same if at is not None}
        self._left = [at for at in range(len(self._old.pieces)) if at not in copied]
        self._anchors = self._index()
        records: list[bytes] = []
        threads = min(os.cpu_count() or 1, _MOST_THREADS)
        # The library works without Python's lock. What it makes does not depend on the threads.
        with ThreadPoolExecutor(threads) as pool:
            waiting: list[list[bytes | _Load]] = []
            for group in self._groups(same):
                waiting.append(list(self._group(group, pool)))
                if len(waiting) > threads:
                    records += _finished(waiting.pop(0))
            for group_records in waiting:
                records += _finished(group_records)
        self.figures["delta"] = sum(map(len, records))
        header = HEADER.pack(
            len(self._new.data),
            self.figures["content"],
            self.figures["reference"],
            self._new.block_size,
            self._new.level,
            self._zstd.version if self._new.block_size else 0,
        )
        return b"".join([MAGIC, header, *records, bytes([END])])

    def _groups(self, same: Sequence[int | None]) -> Iterator[list[_Step]]:
        """The new file's steps; each group's content is as much as one LOAD may bring."""
        group: list[_Step] = []
        size = 0
        for piece, old in zip(self._new.pieces, same, strict=True):
            step = _Step(old)
            if old is None:
                content, mode = self._new.content(piece), piece.mode
                if mode != PLAIN and not self._new.comes_back(piece, content):
                    content, mode = self._new.bytes_of(piece), PLAIN
                    self.figures["literal"] += len(content)
                step = _Step(None, content, mode)
            if size + len(step.content) > MAX_CONTENT:
                yield group
                group, size = [], 0
            group.append(step)
            size += len(step.content)
        yield group

    def _group(self, group: Sequence[_Step], pool: ThreadPoolExecutor) -> Iterator[bytes | _Load]:
        content = b"".join(step.content for step in group)
        if content:
            yield self._load(content, self._references(group, content), pool)
        at = 0
        while at < len(group):
            end = at + 1
            if (first := group[at].old) is not None:
                length = self._old.pieces[first].length
                while end < len(group) and group[end].old == first + end - at:
                    length += self._old.pieces[first + end - at].length
                    end += 1
                yield self._copy(self._old.pieces[first].offset, length)
            else:
                alike = (group[at].mode, len(group[at].content))
                while (
                    end < len(group)
                    and group[end].old is None
                    and (group[end].mode, len(group[end].content)) == alike
                ):
                    end += 1
                yield bytes([EMIT]) + _numbers(alike[0], end - at, alike[1])
            at = end

    def _copy(self, at: int, length: int) -> bytes:
        record = bytes([COPY]) + _signed(at - self._copied_to) + _numbers(length)
        self._copied_to = at + length
        self.figures["copied"] += length
        return record

    def _load(self, content: bytes, references: Sequence[int], pool: ThreadPoolExecutor) -> _Load:
        prefix = b"".join(self._content(at) for at in references)
        frame = pool.submit(self._zstd.compress_against, content, prefix, LEVEL, _WINDOW)
        listed = []
        for at in references:
            piece = self._old.pieces[at]
            skipped = 2 if piece.mode == META else 0
            begin, length = piece.offset + skipped, piece.length - skipped
            listed.append(_signed(begin - self._referred_to))
            listed.append(_numbers(length * 2 + (piece.mode == PLAIN), len(self._content(at))))
            self._referred_to = begin + length
        self.figures["content"] += len(content)
        self.figures["reference"] += len(prefix)
        self.figures["groups"] += 1
        return _Load(len(references), b"".join(listed), len(content), frame)

    def _references(self, group: Sequence[_Step], content: bytes) -> list[int]:
        """The old pieces that are most like ``content``, in the old file's order."""
        votes: Counter[int] = Counter()
        for match in _ANCHOR.finditer(content):
            sequence = content[match.start() : match.start() + _ANCHOR_LENGTH]
            votes.update(self._anchors.get(sequence, ()))
        # Where one piece is like the group, its neighbours may be: what changed all over shares
        # no sequence.
        smooth: Counter[int] = Counter()
        order = {at: number for number, at in enumerate(self._left)}
        for at, count in votes.items():
            smooth[at] += 4 * count
            for near in (order[at] - 1, order[at] + 1):
                if 0 <= near < len(self._left):
                    smooth[self._left[near]] += count
        for at in self._between(group):
            smooth[at] += 1
        chosen: list[int] = []
        size = 0
        for at, _ in sorted(smooth.items(), key=lambda item: (-item[1], item[0])):
            length = len(self._content(at))
            if size + length <= MAX_REFERENCE:
                chosen.append(at)
                size += length
        return sorted(chosen)

    def _between(self, group: Sequence[_Step]) -> Iterator[int]:
        """Old pieces that nothing copies, and that lie among those that the group copies."""
        copied = [step.old for step in group if step.old is not None]
        if copied:
            low, high = min(copied), max(copied)
            yield from (at for at in self._left if low <= at <= high)

    def _index(self) -> dict[bytes, list[int]]:
        """Which of the old pieces that nothing copies hold a sequence."""
        found: dict[bytes, list[int]] = {}
        for at in self._left:
            content = self._content(at)
            for match in _ANCHOR.finditer(content):
                held = found.setdefault(content[match.start() : match.start() + _ANCHOR_LENGTH], [])
                if len(held) < _COMMON and (not held or held[-1] != at):
                    held.append(at)
        return found

    def _content(self, at: int) -> bytes:
        if at not in self._contents:
            if len(self._contents) > 4 * MAX_REFERENCE // _PIECE:
                self._contents.clear()
            self._contents[at] = self._old.content(self._old.pieces[at])
        return self._contents[at]


def _finished(records: Sequence[bytes | _Load]) -> Iterator[bytes]:
    for record in records:
        yield record if isinstance(record, bytes) else record.record()


def _key(file: File, piece: Piece) -> bytes:
    return hashlib.sha256(file.bytes_of(piece)).digest()


def _numbers(*values: int) -> bytes:
    out = bytearray()
    for value in values:
        while value > 0x7F:
            out.append(value & 0x7F | 0x80)
            value >>= 7
        out.append(value)
    return bytes(out)


def _signed(value: int) -> bytes:
    return _numbers(value * 2 if value >= 0 else -value * 2 - 1)


def main(argv: Sequence[str]) -> int:
    """Make a delta, apply it with the node's code, and say what it took."""
    old, new, out = (Path(name) for name in argv[:3])
    library = argv[3] if len(argv) > 3 else None
    begin = time.monotonic()
    data = new.read_bytes()
    with Zstd(library) as zstd:
        maker = Maker(old.read_bytes(), data, zstd)
        out.write_bytes(maker.make())
    made = time.monotonic()
    artifact = Artifact(new.name, len(data), hashlib.sha256(data).hexdigest())
    check = out.with_suffix(".check")
    try:
        applied = apply_delta(str(out), str(old), artifact, str(check), library=library)
    finally:
        check.unlink(missing_ok=True)
    figures = {**maker.figures, "make_seconds": made - begin, "apply_seconds": applied.seconds}
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
