"""What makes a VHDX of ``qemu-img`` the same at every build.

[MS-VHDX] 8.0: two headers name the file and its content by random GUIDs and count from a random
number, the metadata name the disk by one more GUID, and the log holds the last changes of the
table of blocks.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

from product.image.disk import Identifiers
from product.image.errors import ImageError

# Section 2.2: where the headers and the tables of regions are.
_HEADERS = (64 << 10, 128 << 10)
_HEADER_BYTES = 4096
_REGIONS = 192 << 10
_METADATA_REGION = UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e")
_PAGE_83 = UUID("beca12ab-b2e6-4523-93ef-c309e000c746")
_NO_GUID = bytes(16)
_ENTRY_BYTES = 32
_POLYNOMIAL = 0x82F63B78


def settle(path: Path, identifiers: Identifiers) -> None:
    """Give a VHDX the GUIDs of ``identifiers`` and an empty log, in place.

    It must have been closed: what its log says is done. Raises ImageError, OSError.
    """
    with path.open("r+b") as stream:
        numbers = [_number(stream, at) for at in _HEADERS]
        for at, number in zip(_HEADERS, numbers, strict=True):
            _settle_header(stream, at, 1 + (number == max(numbers)), identifiers, path)
        place = _metadata_item(stream, _PAGE_83, path)
        stream.seek(place)
        stream.write(UUID(identifiers.guid("vhdx disk")).bytes_le)


def _number(stream: BinaryIO, at: int) -> int:
    """A header's sequence number: the header with the higher one counts."""
    return int(struct.unpack("<Q", _read(stream, at + 8, 8))[0])


def _settle_header(
    stream: BinaryIO, at: int, number: int, identifiers: Identifiers, path: Path
) -> None:
    """Signature, checksum, sequence number, three GUIDs, log version, version, log's length and
    place."""
    header = bytearray(_read(stream, at, _HEADER_BYTES))
    if header[:4] != b"head":
        raise ImageError(f"{path} is no VHDX: it has no header at byte {at}")
    if header[48:64] != _NO_GUID:
        raise ImageError(f"{path} was not closed: its log still counts")
    header[8:16] = struct.pack("<Q", number)
    header[16:32] = UUID(identifiers.guid("vhdx file")).bytes_le
    header[32:48] = UUID(identifiers.guid("vhdx data")).bytes_le
    length, place = struct.unpack_from("<IQ", header, 68)
    header[4:8] = bytes(4)
    header[4:8] = struct.pack("<I", crc32c(bytes(header)))
    stream.seek(at)
    stream.write(header)
    stream.seek(place)
    stream.write(bytes(length))


def _metadata_item(stream: BinaryIO, wanted: UUID, path: Path) -> int:
    """Where an item of the metadata is, in bytes."""
    table = _read(stream, _REGIONS, 64 << 10)
    for count in range(struct.unpack_from("<I", table, 8)[0]):
        identifier, place, length = struct.unpack_from("<16sQI", table, 16 + count * _ENTRY_BYTES)
        if identifier == _METADATA_REGION.bytes_le:
            break
    else:
        raise ImageError(f"{path} is no VHDX: it has no metadata")
    items = _read(stream, place, min(length, 64 << 10))
    for count in range(struct.unpack_from("<H", items, 10)[0]):
        identifier, offset = struct.unpack_from("<16sI", items, 32 + count * _ENTRY_BYTES)
        if identifier == wanted.bytes_le:
            return int(place + offset)
    raise ImageError(f"{path} is no VHDX: its metadata have no item {wanted}")


def _read(stream: BinaryIO, at: int, count: int) -> bytes:
    stream.seek(at)
    return stream.read(count)


def _table() -> tuple[int, ...]:
    rows = []
    for row in range(256):
        for _ in range(8):
            row = row >> 1 ^ (_POLYNOMIAL if row & 1 else 0)
        rows.append(row)
    return tuple(rows)


_TABLE = _table()


def crc32c(data: bytes) -> int:
    """The CRC of iSCSI (RFC 3720), which no module of the standard library computes."""
    value = 0xFFFFFFFF
    for byte in data:
        value = _TABLE[(value ^ byte) & 0xFF] ^ value >> 8
    return value ^ 0xFFFFFFFF
