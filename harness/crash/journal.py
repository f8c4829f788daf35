"""What a kernel would take from an ext4 journal (jbd2) when it mounts the file system.

The layout is that of Linux's include/linux/jbd2.h, big-endian, with 64-bit block numbers and
checksums of version 3, which mke2fs makes by default.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from harness.crash.crc32c import crc32c
from harness.errors import HarnessError

_MAGIC = 0xC03B3998
_DESCRIPTOR, _COMMIT, _REVOKE = 1, 2, 5
_HAS_REVOKE, _IS_64, _CSUM_V3, _FAST_COMMIT = 0x1, 0x2, 0x10, 0x20
_ESCAPED, _SAME_UUID, _LAST = 0x1, 0x2, 0x8
_HEADER = struct.Struct(">III")
_TAG = struct.Struct(">IIII")
_SEED = 0xFFFFFFFF


@dataclass(slots=True)
class Replayed:
    """``blocks`` of the file system by number, as the journal has them; ``problem`` is what a
    kernel would refuse the mount for."""

    blocks: dict[int, bytes] = field(default_factory=dict)
    transactions: int = 0
    problem: str = ""


@dataclass(slots=True)
class _Transaction:
    sequence: int
    blocks: list[tuple[int, bytes]] = field(default_factory=list)
    revoked: list[int] = field(default_factory=list)
    problem: str = ""


def replay(read: Callable[[int], bytes], size: int) -> Replayed:
    """``read`` gives the journal's blocks of ``size`` bytes by number.

    Raises HarnessError for a journal of another kind.
    """
    head = read(0)
    magic, _, _ = _HEADER.unpack_from(head)
    if magic != _MAGIC:
        return Replayed(problem="the journal has no superblock")
    _, length, first, sequence, start = struct.unpack_from(">IIIII", head, 12)
    (features,) = struct.unpack_from(">I", head, 40)
    if features & ~(_HAS_REVOKE | _IS_64 | _CSUM_V3 | _FAST_COMMIT) or (
        start and not features & _CSUM_V3
    ):
        raise HarnessError(f"a journal with the features {features:#x} is not read here")
    result = Replayed()
    if not start:
        return result
    seed = crc32c(_SEED, head[48:64])
    found = list(_committed(read, size, length, first, sequence, start, seed, features))
    revoked: dict[int, int] = {}
    for transaction in found:
        for block in transaction.revoked:
            revoked[block] = max(transaction.sequence, revoked.get(block, 0))
    for transaction in found:
        result.problem = result.problem or transaction.problem
        for block, data in transaction.blocks:
            if revoked.get(block, -1) < transaction.sequence:
                result.blocks[block] = data
    result.transactions = len(found)
    return result


def _committed(
    read: Callable[[int], bytes],
    size: int,
    length: int,
    first: int,
    sequence: int,
    at: int,
    seed: int,
    features: int,
) -> Iterator[_Transaction]:
    """The transactions whose commit is on the disk, up to the first one that has none."""

    def following(block: int, count: int = 1) -> int:
        block += count
        return block if block < length else block - length + first

    now = _Transaction(sequence)
    for _ in range(length):
        block = read(at)
        magic, kind, number = _HEADER.unpack_from(block)
        if magic != _MAGIC or number != now.sequence:
            return
        if kind == _DESCRIPTOR:
            if not _is_whole(block, size, seed):
                return
            place = following(at)
            for target, flags, checksum in _tags(block, size, features):
                data = read(place)
                place = following(place)
                own = crc32c(crc32c(seed, struct.pack(">I", number)), data)
                if own != checksum:
                    now.problem = f"block {target} in the journal is torn"
                    continue
                if flags & _ESCAPED:
                    data = struct.pack(">I", _MAGIC) + data[4:]
                now.blocks.append((target, data))
            at = place
        elif kind == _REVOKE:
            if not _is_whole(block, size, seed):
                return
            (used,) = struct.unpack_from(">I", block, 12)
            width = 8 if features & _IS_64 else 4
            for offset in range(16, used, width):
                now.revoked.append(int.from_bytes(block[offset : offset + width], "big"))
            at = following(at)
        elif kind == _COMMIT:
            (checksum,) = struct.unpack_from(">I", block, 16)
            if crc32c(seed, block[:16] + bytes(4) + block[20:]) != checksum:
                return
            yield now
            now = _Transaction(now.sequence + 1)
            at = following(at)
        else:
            return


def _is_whole(block: bytes, size: int, seed: int) -> bool:
    (checksum,) = struct.unpack_from(">I", block, size - 4)
    return bool(crc32c(seed, block[: size - 4] + bytes(4)) == checksum)


def _tags(block: bytes, size: int, features: int) -> Iterator[tuple[int, int, int]]:
    """Block number, flags and checksum of each block that follows a descriptor."""
    at = 12
    while at + _TAG.size <= size - 4:
        low, flags, high, checksum = _TAG.unpack_from(block, at)
        yield low | (high << 32 if features & _IS_64 else 0), flags, checksum
        at += _TAG.size
        if not flags & _SAME_UUID:
            at += 16
        if flags & _LAST:
            return


def emptied(head: bytes) -> bytes:
    """A journal's superblock as it is after a replay."""
    cleared = bytearray(head)
    struct.pack_into(">I", cleared, 28, 0)
    struct.pack_into(">I", cleared, 252, 0)
    struct.pack_into(">I", cleared, 252, crc32c(_SEED, bytes(cleared[:1024])))
    return bytes(cleared)
