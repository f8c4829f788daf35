"""A disk image as pieces of files: a medium that holds a slot's files gives back the whole image.

The document, ``disk.json``, says of each range of the image which file has its bytes, and their
digest; what no piece covers is zeros. The pieces are made by product.image.media.pieces_of.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import stat
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from product.disk.errors import DiskError

DOCUMENT_NAME, REST_NAME = "disk.json", "rest.bin"
# A document of more bytes is none of this system's.
MAX_DOCUMENT = 1 << 20
_CHUNK = 4 << 20
# From linux/fs.h.
_BLKZEROOUT = 0x127F
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

# Opens a file by its name in the document; whoever calls closes the descriptor.
OpenFile = Callable[[str], int]


class Piece(NamedTuple):
    """``length`` bytes of the image from ``at``: those of ``file`` from ``start``."""

    at: int
    length: int
    file: str
    start: int
    sha256: str

    @property
    def end(self) -> int:
        """The first byte behind it."""
        return self.at + self.length


class Span(NamedTuple):
    """A range of the image, in bytes: of a ``piece``, or zeros."""

    at: int
    end: int
    piece: Piece | None


class Document(NamedTuple):
    """An image of ``size`` bytes and its digest; pieces in their order, which do not overlap."""

    size: int
    sha256: str
    pieces: tuple[Piece, ...]

    def to_bytes(self) -> bytes:
        """The document's content, JSON."""
        pieces = [
            {"at": p.at, "length": p.length, "file": p.file, "from": p.start, "sha256": p.sha256}
            for p in self.pieces
        ]
        text = {"size": self.size, "sha256": self.sha256, "pieces": pieces}
        return (json.dumps(text, indent=1) + "\n").encode()

    def spans(self) -> Iterator[Span]:
        """The whole image from front to back, the zeros between the pieces too."""
        position = 0
        for piece in self.pieces:
            if piece.at > position:
                yield Span(position, piece.at, None)
            yield Span(piece.at, piece.end, piece)
            position = piece.end
        if position < self.size:
            yield Span(position, self.size, None)


def parse(data: bytes, origin: str) -> Document:
    """Raises DiskError for anything that is no such document; ``origin`` names it."""
    try:
        found = json.loads(data.decode())
        pieces = tuple(
            Piece(
                _count(one["at"]), _count(one["length"]), _name(one["file"]), _count(one["from"]),
                _digest(one["sha256"]),
            )
            for one in found["pieces"]
        )  # fmt: skip
        document = Document(_count(found["size"]), _digest(found["sha256"]), pieces)
        position = 0
        for piece in pieces:
            if piece.at < position or not piece.length or piece.end > document.size:
                raise ValueError(f"the piece at byte {piece.at} is out of place")
            position = piece.end
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DiskError(
            f"{origin} does not describe a disk image: {error}", hint="the medium is damaged"
        ) from None
    return document


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 62:
        raise ValueError(f"{value!r} is no number of bytes")
    return value


def _name(value: object) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError(f"{value!r} is no plain file name")
    return value


def _digest(value: object) -> str:
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        raise ValueError(f"{value!r} is no SHA-256")
    return value


def join(
    document: Document,
    open_file: OpenFile,
    target: int,
    *,
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Write the image to the descriptor ``target``, a file or a disk, from its first byte on.

    ``progress`` is told of each number of bytes that is done. Raises DiskError, at the latest after
    the piece that does not match its digest was written; OSError.
    """
    if stat.S_ISREG(os.fstat(target).st_mode):
        os.ftruncate(target, 0)
        os.ftruncate(target, document.size)
    for span in document.spans():
        write(span, open_file, target, progress)


def write(
    span: Span, open_file: OpenFile, target: int, progress: Callable[[int], None] = lambda _: None
) -> None:
    """Write one span to its place; a new file has its zeros already. Raises DiskError, OSError."""
    if span.piece is None:
        if stat.S_ISBLK(os.fstat(target).st_mode):
            zero(target, span.at, span.end - span.at)
        progress(span.end - span.at)
        return
    position = span.at
    for data in content(span.piece, open_file):
        _write_all(target, data, position)
        position += len(data)
        progress(len(data))


def content(piece: Piece, open_file: OpenFile) -> Iterator[bytes]:
    """The bytes of a piece. Raises DiskError at their end, where they do not match; OSError."""
    digest = hashlib.sha256()
    descriptor = open_file(piece.file)
    try:
        done = 0
        while done < piece.length:
            count = min(_CHUNK, piece.length - done)
            data = os.pread(descriptor, count, piece.start + done)
            if not data:
                raise DiskError(
                    f"{piece.file} ends at byte {piece.start + done}, before the image has all of "
                    "it",
                    hint="the medium is damaged: write it again",
                )
            digest.update(data)
            done += len(data)
            yield data
    finally:
        os.close(descriptor)
    if digest.hexdigest() != piece.sha256:
        raise DiskError(
            f"{piece.length} bytes of {piece.file} from byte {piece.start} on do not match their "
            "digest",
            hint="the medium is damaged: write it again",
        )


def zero(descriptor: int, at: int, length: int) -> None:
    """Make a range of a block device zeros, as fast as it can. Raises OSError."""
    if length:
        fcntl.ioctl(descriptor, _BLKZEROOUT, struct.pack("QQ", at, length))


def _write_all(descriptor: int, data: bytes, position: int) -> None:
    view = memoryview(data)
    while view:
        done = os.pwrite(descriptor, view, position)
        view = view[done:]
        position += done
