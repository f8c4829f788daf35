"""An ext4 file system as GRUB reads it, without its journal, and as Linux does, who replays that.

The layout is that of Linux's Documentation/filesystems/ext4. What is read here is what a node's
slots and its data partition use: extents and linear directories.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from harness.crash import journal
from harness.crash.crc32c import crc32c
from harness.errors import HarnessError

_MAGIC = 0xEF53
_RECOVER, _EXTENTS, _64BIT, _INLINE = 0x4, 0x40, 0x80, 0x8000
_CHECKSUMS = 0x400
_ROOT = 2
_EXTENT_MAGIC = 0xF30A
_DIRECTORY, _REGULAR = 0x4000, 0x8000
_MAX_DEPTH = 5


class Ext4Error(HarnessError):
    """What is there is no ext4, or not one that can be read."""


class Ext4:
    """A file system whose bytes ``read(offset, length)`` gives."""

    def __init__(self, read: Callable[[int, int], bytes], *, replay: bool) -> None:
        """With ``replay`` as Linux mounts it. Raises Ext4Error."""
        self._read = read
        self._replayed: dict[int, bytes] = {}
        # Blocks of directories and of extents that were read.
        self.looked_at: set[int] = set()
        head = read(1024, 1024)
        self._parse(head)
        self.needs_recovery = bool(self._incompat & _RECOVER)
        self.transactions = 0
        (features,) = struct.unpack_from("<I", head, 100)
        if replay and features & _CHECKSUMS:
            (checksum,) = struct.unpack_from("<I", head, 1020)
            if crc32c(0xFFFFFFFF, head[:1020]) != checksum:
                raise Ext4Error("its superblock is torn")
        if replay and self.needs_recovery:
            found = journal.replay(self._journal_reader(), self.block)
            if found.problem:
                raise Ext4Error(found.problem)
            self._replayed = found.blocks
            self.transactions = found.transactions
            self._parse(self.bytes_at(1024, 1024))

    @property
    def replayed(self) -> dict[int, bytes]:
        """What the journal has of it, by block."""
        return self._replayed

    def _parse(self, head: bytes) -> None:
        (magic,) = struct.unpack_from("<H", head, 56)
        if magic != _MAGIC:
            raise Ext4Error("there is no ext4")
        self.inodes, self.blocks = struct.unpack_from("<II", head, 0)
        (self._first_data,) = struct.unpack_from("<I", head, 20)
        (log_size,) = struct.unpack_from("<I", head, 24)
        self.block = 1024 << log_size
        (self.blocks_per_group,) = struct.unpack_from("<I", head, 32)
        (self.inodes_per_group,) = struct.unpack_from("<I", head, 40)
        (self._inode_size,) = struct.unpack_from("<H", head, 88)
        (self._incompat,) = struct.unpack_from("<I", head, 96)
        (self._journal_inode,) = struct.unpack_from("<I", head, 224)
        self._descriptor = struct.unpack_from("<H", head, 254)[0] if self._incompat & _64BIT else 32
        if self._incompat & _INLINE:
            raise Ext4Error("it has inline data")
        if self.blocks_per_group == 0 or self.inodes_per_group == 0 or log_size > 2:
            raise Ext4Error("its superblock is garbage")

    # Blocks

    def bytes_at(self, offset: int, length: int) -> bytes:
        """Bytes of the device, as the journal has them where it has."""
        if not self._replayed:
            return self._read(offset, length)
        parts = []
        while length:
            number, inside = divmod(offset, self.block)
            count = min(length, self.block - inside)
            data = self._replayed.get(number)
            parts.append(
                self._read(offset, count) if data is None else data[inside : inside + count]
            )
            offset += count
            length -= count
        return b"".join(parts)

    def read_block(self, number: int) -> bytes:
        """One block."""
        found = self._replayed.get(number)
        return self._read(number * self.block, self.block) if found is None else found

    def _group(self, number: int) -> bytes:
        at = (self._first_data + 1) * self.block + number * self._descriptor
        return self.bytes_at(at, self._descriptor)

    def _address(self, group: bytes, low: int, high: int) -> int:
        (address,) = struct.unpack_from("<I", group, low)
        if self._descriptor >= 64:
            address |= struct.unpack_from("<I", group, high)[0] << 32
        return int(address)

    def _inode(self, number: int) -> bytes:
        if not 0 < number <= self.inodes:
            raise Ext4Error(f"inode {number} is beyond its {self.inodes}")
        group, index = divmod(number - 1, self.inodes_per_group)
        table = self._address(self._group(group), 8, 40)
        return self.bytes_at(table * self.block + index * self._inode_size, self._inode_size)

    def _extents(self, root: bytes) -> list[tuple[int, int, int]]:
        """(first block in the file, count, first block on the disk); a hole has none."""
        found: list[tuple[int, int, int]] = []
        waiting = [root]
        for _ in range(100_000):
            if not waiting:
                return sorted(found)
            node = waiting.pop()
            magic, entries, _, depth = struct.unpack_from("<HHHH", node)
            if magic != _EXTENT_MAGIC or depth > _MAX_DEPTH or 12 + entries * 12 > len(node):
                raise Ext4Error("a tree of extents is garbage")
            for at in range(12, 12 + entries * 12, 12):
                first, a, b, c = struct.unpack_from("<IHHI", node, at)
                if depth:
                    low, high = struct.unpack_from("<IH", node, at + 4)
                    child = low | high << 32
                    self.looked_at.add(child)
                    waiting.append(self.read_block(child))
                elif a <= 0x8000:
                    found.append((first, a, b << 32 | c))
        raise Ext4Error("a tree of extents has no end")

    def _content(self, inode: bytes) -> Iterator[tuple[int, int]]:
        """(block on the disk or -1 for a hole, count), up to the file's size."""
        (flags,) = struct.unpack_from("<I", inode, 32)
        if not flags & 0x80000:
            if not any(inode[40:100]):
                extents: list[tuple[int, int, int]] = []
            else:
                raise Ext4Error("a file has no extents")
        else:
            extents = self._extents(inode[40:100])
        blocks = -(-_size(inode) // self.block)
        done = 0
        for first, count, at in extents:
            if first >= blocks:
                break
            if first > done:
                yield -1, first - done
            count = min(count, blocks - first)
            yield at, count
            done = first + count
        if done < blocks:
            yield -1, blocks - done

    def _journal_reader(self) -> Callable[[int], bytes]:
        runs = list(self._content(self._inode(self._journal_inode)))
        places = [at + i for at, count in runs for i in range(count)]

        def read(number: int) -> bytes:
            if number >= len(places):
                raise Ext4Error(f"block {number} is beyond the journal's {len(places)}")
            return self._read(places[number] * self.block, self.block)

        return read

    # Names

    def _entries(self, inode: bytes) -> dict[str, int]:
        found = {}
        for at, count in self._content(inode):
            for number in range(at, at + count):
                if at < 0:
                    continue
                self.looked_at.add(number)
                block = self.read_block(number)
                offset = 0
                while offset + 8 <= len(block):
                    entry, length, name_length = struct.unpack_from("<IHB", block, offset)
                    if length < 8 or offset + length > len(block):
                        raise Ext4Error("a directory is garbage")
                    if entry and name_length:
                        name = block[offset + 8 : offset + 8 + name_length]
                        found[name.decode("utf-8", "replace")] = entry
                    offset += length
        return found

    def _walk(self, path: str) -> bytes | None:
        inode = self._inode(_ROOT)
        for name in path.split("/"):
            if not name:
                continue
            if _kind(inode) != _DIRECTORY:
                return None
            number = self._entries(inode).get(name)
            if number is None:
                return None
            inode = self._inode(number)
        return inode

    def names(self, path: str = "/") -> list[str]:
        """What lies in a directory; nothing where there is none. Raises Ext4Error."""
        inode = self._walk(path)
        if inode is None or _kind(inode) != _DIRECTORY:
            return []
        return sorted(name for name in self._entries(inode) if name not in (".", ".."))

    def extents(self, path: str) -> tuple[tuple[int, int], ...] | None:
        """Where a file lies, in runs of blocks (-1 for a hole); None where there is none."""
        inode = self._walk(path)
        if inode is None or _kind(inode) != _REGULAR:
            return None
        return tuple(self._content(inode))

    def size(self, path: str) -> int | None:
        """Bytes of a file; None where there is none."""
        inode = self._walk(path)
        return None if inode is None or _kind(inode) != _REGULAR else _size(inode)

    def tree(self, path: str = "/") -> Iterator[str]:
        """Every regular file below a directory. Raises Ext4Error."""
        start = self._walk(path)
        waiting = [(path.strip("/"), start)] if start is not None else []
        while waiting:
            here, inode = waiting.pop()
            for name, number in self._entries(inode).items():
                if name in (".", ".."):
                    continue
                below = self._inode(number)
                where = f"{here}/{name}" if here else name
                if _kind(below) == _DIRECTORY:
                    waiting.append((where, below))
                elif _kind(below) == _REGULAR:
                    yield where

    def pieces(self, path: str) -> Iterator[bytes] | None:
        """The content of a file; None where there is none. Raises Ext4Error."""
        inode = self._walk(path)
        if inode is None or _kind(inode) != _REGULAR:
            return None
        return self._pieces(inode)

    def _pieces(self, inode: bytes) -> Iterator[bytes]:
        left = _size(inode)
        for at, count in self._content(inode):
            length = min(left, count * self.block)
            yield bytes(length) if at < 0 else self.bytes_at(at * self.block, length)
            left -= length

    def file(self, path: str) -> bytes | None:
        """All of a small file. Raises Ext4Error."""
        pieces = self.pieces(path)
        return None if pieces is None else b"".join(pieces)

    # Metadata

    def fixed_blocks(self) -> Iterator[tuple[int, int]]:
        """Runs of blocks that are metadata as long as the file system is: (first, count)."""
        groups = -(-(self.blocks - self._first_data) // self.blocks_per_group)
        table = -(-self.inodes_per_group * self._inode_size // self.block)
        descriptors = -(-groups * self._descriptor // self.block)
        for number in range(groups):
            # Copies of the superblock and of the descriptors, where a group has them.
            yield self._first_data + number * self.blocks_per_group, 1 + descriptors
            group = self._group(number)
            yield self._address(group, 0, 32), 1
            yield self._address(group, 4, 36), 1
            yield self._address(group, 8, 40), table
        yield from self.journal_runs()

    def journal_runs(self) -> Iterator[tuple[int, int]]:
        """Where its journal lies: (first block, count)."""
        if self._journal_inode:
            for at, count in self._content(self._inode(self._journal_inode)):
                if at >= 0:
                    yield at, count


def _kind(inode: bytes) -> int:
    return int(struct.unpack_from("<H", inode)[0]) & 0xF000


def _size(inode: bytes) -> int:
    low, high = struct.unpack_from("<I", inode, 4)[0], struct.unpack_from("<I", inode, 108)[0]
    return int(low | high << 32)
