"""CRC-32C as ext4 and its journal use it: without an inversion before or after."""

from __future__ import annotations

from functools import lru_cache


def _table() -> tuple[int, ...]:
    rows = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        rows.append(byte)
    return tuple(rows)


_TABLE = _table()


# The same journal blocks are read in thousands of states.
@lru_cache(maxsize=32768)
def crc32c(seed: int, data: bytes) -> int:
    """The checksum goes on from ``seed``."""
    table = _TABLE
    for byte in data:
        seed = table[(seed ^ byte) & 0xFF] ^ (seed >> 8)
    return seed
