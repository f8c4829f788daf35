"""Where the blocks of a squashfs 4.0 image lie: what a delta between two of them needs to know.

Names, directories and modes are of no interest here: inodes are read for the sizes of their blocks.
Images are those of mksquashfs with zstd. The format: https://dr-emann.github.io/squashfs/.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

MAGIC = b"hsqs"
_SUPERBLOCK = struct.Struct("<4sIIIIHHHHHHQQQQQQQQ")
_ZSTD = 6
_HAS_OPTIONS = 0x0400
_STORED_DATA = 1 << 24
_STORED_META = 1 << 15
_META_BLOCK = 8192
_NONE = 0xFFFF_FFFF_FFFF_FFFF
_NO_FRAGMENT = 0xFFFF_FFFF
# What mksquashfs takes where it writes no option.
_DEFAULT_LEVEL = 15

Decompress = Callable[[bytes, int], bytes]


class SquashfsError(Exception):
    """The bytes are not an image that this module can read."""


class Block(NamedTuple):
    """``length`` bytes at ``offset``, a metadata block with its two bytes of length before.

    ``stored``: the content is there as it is.
    """

    offset: int
    length: int
    meta: bool
    stored: bool


class Image(NamedTuple):
    """An image's blocks by offset; none overlaps another."""

    block_size: int
    level: int
    blocks: tuple[Block, ...]


def read_image(data: bytes | memoryview, decompress: Decompress) -> Image:
    """The blocks of the image in ``data``; ``decompress(bytes, most)`` is that of zstd.

    Raises SquashfsError.
    """
    try:
        return _Reader(data, decompress).image()
    except (struct.error, IndexError) as error:
        raise SquashfsError(f"the squashfs image ends too early: {error}") from None


class _Reader:
    """One image."""

    def __init__(self, data: bytes | memoryview, decompress: Decompress) -> None:
        self._data = memoryview(data)
        self._decompress = decompress
        fields = _SUPERBLOCK.unpack_from(data)
        if fields[0] != MAGIC or (fields[9], fields[10]) != (4, 0):
            raise SquashfsError("it is no squashfs 4.0 image")
        if fields[5] != _ZSTD:
            raise SquashfsError(f"it is compressed by number {fields[5]}, not by zstd")
        self._block_size, self._fragments, self._flags = fields[3], fields[4], fields[7]
        self._ids, self._inodes = fields[8], fields[1]
        (self._id_table, self._xattrs, self._inode_table, self._directories) = fields[13:17]
        self._fragment_table, self._exports = fields[17], fields[18]
        self._found: dict[int, Block] = {}

    def image(self) -> Image:
        level = _DEFAULT_LEVEL
        if self._flags & _HAS_OPTIONS:
            block, content = self._meta(_SUPERBLOCK.size)
            self._found[block.offset] = block
            (level,) = struct.unpack_from("<I", content)
        tables = [
            (self._fragment_table, self._fragments * 16),
            (self._exports, self._inodes * 8),
            (self._id_table, self._ids * 4),
        ]
        fragments = b""
        first = min(start for start, _ in tables if start != _NONE)
        for number, (start, size) in enumerate(tables):
            if start == _NONE or not size:
                continue
            content = b""
            for index in range(-(-size // _META_BLOCK)):
                (at,) = struct.unpack_from("<Q", self._data, start + 8 * index)
                first = min(first, at)
                block, piece = self._meta(at)
                self._found[at] = block
                content += piece
            if number == 0:
                fragments = content
        inodes = b"".join(self._run(self._inode_table, self._directories))
        for _ in self._run(self._directories, first):
            pass
        self._files(inodes)
        for number in range(self._fragments):
            start, size, _ = struct.unpack_from("<QII", fragments, 16 * number)
            self._data_block(start, size)
        return Image(self._block_size, level, tuple(self._in_order()))

    def _in_order(self) -> Iterator[Block]:
        end = 0
        for offset in sorted(self._found):
            block = self._found[offset]
            if offset < end or offset + block.length > len(self._data):
                raise SquashfsError(f"the block at {offset} lies where another is, or outside")
            end = offset + block.length
            yield block

    def _run(self, at: int, end: int) -> Iterator[bytes]:
        while at < end:
            block, content = self._meta(at)
            self._found[at] = block
            yield content
            at += block.length

    def _meta(self, at: int) -> tuple[Block, bytes]:
        (field,) = struct.unpack_from("<H", self._data, at)
        stored = bool(field & _STORED_META)
        size = field & ~_STORED_META
        content = bytes(self._data[at + 2 : at + 2 + size])
        if len(content) != size:
            raise SquashfsError(f"the metadata block at {at} ends outside the image")
        block = Block(at, size + 2, meta=True, stored=stored)
        return block, content if stored else self._decompress(content, _META_BLOCK)

    def _data_block(self, at: int, field: int) -> int:
        """Note a block; its length. A sparse one has none."""
        size = field & ~_STORED_DATA
        if size:
            block = Block(at, size, meta=False, stored=bool(field & _STORED_DATA))
            self._found[at] = block
        return size

    def _files(self, table: bytes) -> None:
        at = 0
        for _ in range(self._inodes):
            (kind,) = struct.unpack_from("<H", table, at)
            if kind == 2:
                start, fragment, _, size = struct.unpack_from("<IIII", table, at + 16)
                at = self._blocks(table, at + 32, start, size, fragment)
            elif kind == 9:
                start, size, _, _, fragment = struct.unpack_from("<QQQII", table, at + 16)
                at = self._blocks(table, at + 56, start, size, fragment)
            elif kind == 1:
                at += 32
            elif kind == 8:
                (count,) = struct.unpack_from("<H", table, at + 32)
                at += 40
                for _ in range(count):
                    (length,) = struct.unpack_from("<I", table, at + 8)
                    at += 12 + length + 1
            elif kind in (3, 10):
                (length,) = struct.unpack_from("<I", table, at + 20)
                at += 24 + length + (4 if kind == 10 else 0)
            elif kind in (4, 5, 6, 7, 11, 12, 13, 14):
                at += {4: 24, 5: 24, 6: 20, 7: 20, 11: 28, 12: 28, 13: 24, 14: 24}[kind]
            else:
                raise SquashfsError(f"there is an inode of the kind {kind}")

    def _blocks(self, table: bytes, at: int, start: int, size: int, fragment: int) -> int:
        whole = size // self._block_size
        count = whole if fragment != _NO_FRAGMENT else -(-size // self._block_size)
        for number in range(count):
            (field,) = struct.unpack_from("<I", table, at + 4 * number)
            start += self._data_block(int(start), field)
        return int(at + 4 * count)
