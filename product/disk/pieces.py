"""A disk image as pieces of files: ``disk.json`` says where each piece of which file lies.

::

    {"size": 1411383296, "sha256": "of the whole image", "pieces": [
        {"at": 269484032, "length": 39981056, "file": "root.squashfs", "from": 0,
         "sha256": "of that range"}, ...]}

Numbers are bytes. Pieces are in the order of the disk; what none covers is zeros. It needs the
standard library alone, because an installer in the guest reads it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple

from product.disk.errors import DiskError

_BLOCK = 1 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# More than any disk has bytes; numbers of a document end here.
_MOST = 1 << 62
_HINT = "fetch the medium again"


class PiecesError(DiskError):
    """A description of a disk that is damaged, or a file that does not fit it."""


class Piece(NamedTuple):
    """``length`` bytes of the disk, from ``at`` on: those of ``file`` from ``start`` on."""

    at: int
    length: int
    file: str
    start: int
    sha256: str


class Document(NamedTuple):
    """What ``disk.json`` says; ``sha256`` is that of the whole image, of ``size`` bytes."""

    size: int
    sha256: str
    pieces: tuple[Piece, ...]

    @classmethod
    def parse(cls, data: bytes) -> Document:
        """Read ``disk.json``. Raises PiecesError."""
        try:
            raw = json.loads(data)
            size, rows = _number(raw, "size"), raw["pieces"]
            pieces = tuple(
                Piece(
                    _number(row, "at"), _number(row, "length"), _text(row, "file", _FILE),
                    _number(row, "from"), _text(row, "sha256", _SHA256),
                )
                for row in rows
            )  # fmt: skip
            whole = cls(size, _text(raw, "sha256", _SHA256), pieces)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise PiecesError(f"disk.json is damaged: {error!r}", hint=_HINT) from None
        end = 0
        for piece in pieces:
            if piece.at < end or not piece.length or piece.at + piece.length > size:
                raise PiecesError(
                    f"disk.json is damaged: the piece at byte {piece.at} overlaps another one, or "
                    "the disk's end",
                    hint=_HINT,
                )
            end = piece.at + piece.length
        return whole

    def to_bytes(self) -> bytes:
        """``disk.json``; the same document has the same bytes."""
        pieces = [
            {"at": one.at, "length": one.length, "file": one.file, "from": one.start,
             "sha256": one.sha256}
            for one in self.pieces
        ]  # fmt: skip
        document = {"size": self.size, "sha256": self.sha256, "pieces": pieces}
        return json.dumps(document, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def join(document: Document, open_file: Callable[[str], BinaryIO], target: int) -> None:
    """Write the pieces to ``target``, a descriptor of zeros, each verified by its digest.

    ``open_file`` gives a file by its name. What no piece covers is not written: a file has a hole
    there, and a disk what it had. Raises PiecesError where a file is not what the document says,
    with the pieces before it written; OSError.
    """
    for piece in document.pieces:
        digest = hashlib.sha256()
        with open_file(piece.file) as stream:
            stream.seek(piece.start)
            done = 0
            while done < piece.length:
                block = stream.read(min(_BLOCK, piece.length - done))
                if not block:
                    raise PiecesError(
                        f"{piece.file} ends at byte {piece.start + done}; the disk needs more",
                        hint=_HINT,
                    )
                digest.update(block)
                _write(target, block, piece.at + done)
                done += len(block)
        if digest.hexdigest() != piece.sha256:
            raise PiecesError(
                f"{piece.file} is damaged: bytes {piece.start} to {piece.start + piece.length} "
                f"have the SHA-256 {digest.hexdigest()}, not {piece.sha256}",
                hint=_HINT,
            )


def _write(target: int, block: bytes, at: int) -> None:
    view = memoryview(block)
    while view:
        count = os.pwrite(target, view, at)
        view, at = view[count:], at + count


def _number(row: Any, key: str) -> int:
    value = row[key]
    if type(value) is not int or not 0 <= value <= _MOST:
        raise ValueError(f"{key} is {value!r}")
    return value


def _text(row: Any, key: str, pattern: re.Pattern[str]) -> str:
    value = row[key]
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ValueError(f"{key} is {value!r}")
    return value
