"""Taking a disk image apart: where its file systems put the files that a medium holds anyway.

A file is found by comparing content, in blocks of the file systems' size. All else of the image
that is not zero goes to one file more. product.disk.pieces puts the image together again.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path

from product.disk.pieces import REST_NAME, Document, Piece
from product.image import sparse
from product.image.errors import ImageError

# Of the image's ext4 file systems; partitions begin at a multiple of it.
BLOCK = 4096
_ZERO = bytes(BLOCK)


def split(disk: Path, files: Mapping[str, Path], rest: Path) -> Document:
    """Describe ``disk`` by pieces of ``files`` and of ``rest``, which is written.

    Raises ImageError for an image that is not whole blocks; OSError.
    """
    size = disk.stat().st_size
    if not size or size % BLOCK:
        raise ImageError(f"{disk} has {size} bytes, which is no multiple of {BLOCK}")
    with disk.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        blocks = list(_written(stream.fileno(), size))
        with mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ) as image:
            pieces = _pieces(image, blocks, files, rest)
    return Document(size, sha256, tuple(pieces))


def _written(descriptor: int, size: int) -> Iterator[int]:
    """Where each block begins that is not a hole."""
    reached = 0
    for start, stop in sparse.extents(descriptor, size):
        begin = max(reached, start // BLOCK * BLOCK)
        reached = -(-stop // BLOCK) * BLOCK
        yield from range(begin, reached, BLOCK)


def _pieces(
    image: mmap.mmap, blocks: list[int], files: Mapping[str, Path], rest: Path
) -> list[Piece]:
    places: dict[bytes, list[int]] = {}
    left = []
    for at in blocks:
        block = image[at : at + BLOCK]
        if block != _ZERO:
            left.append(at)
            places.setdefault(_key(block), []).append(at)
    covered: set[int] = set()
    pieces = []
    for name, path in files.items():
        if path.stat().st_size:
            for piece in _runs(image, places, covered, name, path):
                covered.update(range(piece.at, piece.end, BLOCK))
                pieces.append(piece)
    with rest.open("wb") as writer:
        for start, end in _joined(at for at in left if at not in covered):
            data = image[start:end]
            digest = hashlib.sha256(data).hexdigest()
            pieces.append(Piece(start, end - start, REST_NAME, writer.tell(), digest))
            writer.write(data)
    return sorted(pieces)


def _runs(
    image: mmap.mmap, places: Mapping[bytes, list[int]], covered: set[int], name: str, path: Path
) -> Iterator[Piece]:
    """The stretches of a file that lie in the image in one piece, blocks of zeros only within."""
    with (
        path.open("rb") as stream,
        mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ) as content,
    ):
        size, position = len(content), 0
        while position < size:
            found = [
                at for at in places.get(_key(_block(content, position)), ()) if at not in covered
            ]
            stop = position + BLOCK
            if found:
                length, at = max(
                    (_common(image, at, content, position, covered), -at) for at in found[:8]
                )
                stop = position + length
                length = min(length, size - position)
                digest = hashlib.sha256(content[position : position + length]).hexdigest()
                yield Piece(-at, length, name, position, digest)
            position = stop


def _common(image: mmap.mmap, at: int, content: mmap.mmap, position: int, covered: set[int]) -> int:
    """How many bytes, whole blocks, the image has from ``at`` as the file from ``position``."""
    length = 0
    while (
        position + length < len(content)
        and at + length < len(image)
        and at + length not in covered
        and image[at + length : at + length + BLOCK] == _block(content, position + length)
    ):
        length += BLOCK
    return length


def _block(content: mmap.mmap, position: int) -> bytes:
    """A file's last block is filled up with zeros, as it is on the disk."""
    return content[position : position + BLOCK].ljust(BLOCK, b"\0")


def _key(block: bytes) -> bytes:
    return hashlib.blake2b(block, digest_size=16).digest()


def _joined(blocks: Iterator[int]) -> Iterator[tuple[int, int]]:
    """Start and end of each unbroken row of blocks."""
    start = end = -1
    for at in blocks:
        if at != end:
            if end >= 0:
                yield start, end
            start = at
        end = at + BLOCK
    if end >= 0:
        yield start, end
