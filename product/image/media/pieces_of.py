"""A disk image as pieces of the files of its slot, so that a medium holds each of them once.

The files are found where ext4 put them, by comparing content block by block; what else of the disk
is not zero comes into ``rest.bin``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from product.disk.pieces import Document, Piece
from product.image import sparse
from product.image.build import Image
from product.image.cache import file_sha256

DISK_NAME, REST_NAME = "disk.json", "rest.bin"
# Of ext4, as product.image.disk makes it.
_BLOCK = 4096
_ZERO = bytes(_BLOCK)


def split_disk(image: Image, work: Path) -> Document:
    """Write ``rest.bin`` and ``disk.json`` into ``work``; the other files are the slot's.

    Raises OSError.
    """
    files = {path.name: path for path in sorted(image.slot.folder.iterdir())}
    document = split(image.disk, files, work / REST_NAME, image.sha256)
    (work / DISK_NAME).write_bytes(document.to_bytes())
    return document


def split(disk: Path, files: Mapping[str, Path], rest: Path, sha256: str | None = None) -> Document:
    """Describe ``disk`` by ``files``, and write all else to ``rest``, which is ``rest.bin``.

    ``sha256`` is the disk's; it is computed if it is not given. Raises OSError.
    """
    known = _Known(files)
    pieces: list[Piece] = []
    with rest.open("wb") as writer:
        run: _Run | None = None
        for at, block in _blocks(disk):
            digest = _digest(block)
            if run is None or not run.goes_on(at, digest, known):
                if run is not None:
                    pieces.append(run.piece())
                run = _Run(at, *known.find(digest, writer.tell()))
            if run.file == REST_NAME:
                writer.write(block)
                run.add(block)
            else:
                run.add(block[: known.sizes[run.file] - run.end])
        if run is not None:
            pieces.append(run.piece())
    return Document(disk.stat().st_size, sha256 or file_sha256(disk), tuple(pieces))


class _Known:
    """The blocks of the files, the last of each padded with zeros as on the disk."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self.sizes: dict[str, int] = {}
        self._blocks: dict[str, list[bytes]] = {}
        self._first: dict[bytes, tuple[str, int]] = {}
        for name, path in files.items():
            self.sizes[name] = path.stat().st_size
            digests = self._blocks[name] = []
            with path.open("rb") as stream:
                while block := stream.read(_BLOCK):
                    digest = _digest(block.ljust(_BLOCK, b"\0"))
                    self._first.setdefault(digest, (name, len(digests) * _BLOCK))
                    digests.append(digest)

    def find(self, digest: bytes, rest: int) -> tuple[str, int]:
        """The file and place of a block; the rest's, at ``rest``, where no file has it."""
        return self._first.get(digest, (REST_NAME, rest))

    def has(self, name: str, start: int, digest: bytes) -> bool:
        """Whether a file has this block at a place."""
        number = start // _BLOCK
        return number < len(self._blocks[name]) and self._blocks[name][number] == digest

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._first


class _Run:
    """A piece that grows while disk and file go on alike."""

    def __init__(self, at: int, file: str, start: int) -> None:
        self.file = file
        self._at = at
        self._start = start
        self._length = 0
        self._sha256 = hashlib.sha256()

    @property
    def end(self) -> int:
        """Where it ends in its file."""
        return self._start + self._length

    def goes_on(self, at: int, digest: bytes, known: _Known) -> bool:
        """Whether the block at ``at`` of the disk is the next one of this piece."""
        if at != self._at + self._length:
            return False
        if self.file == REST_NAME:
            return digest not in known
        return known.has(self.file, self.end, digest)

    def add(self, block: bytes) -> None:
        """Take the next block."""
        self._sha256.update(block)
        self._length += len(block)

    def piece(self) -> Piece:
        """What it has become."""
        return Piece(self._at, self._length, self.file, self._start, self._sha256.hexdigest())


def _blocks(disk: Path) -> Iterator[tuple[int, bytes]]:
    """Place and content of each block that is not zeros."""
    with disk.open("rb", buffering=1 << 20) as stream:
        size = disk.stat().st_size
        done = 0
        # All at once: the search moves the descriptor, of which the buffer knows nothing.
        for begin, end in list(sparse.extents(stream.fileno(), size)):
            at = max(done, begin // _BLOCK * _BLOCK)
            stream.seek(at)
            while at < end and (block := stream.read(_BLOCK)):
                if block != _ZERO[: len(block)]:
                    yield at, block
                at += _BLOCK
            done = at


def _digest(block: bytes) -> bytes:
    return hashlib.blake2b(block, digest_size=16).digest()
