"""Programs for UEFI: where their parts and their signatures lie.

Whether a signature holds, the firmware says. Offsets are those of Microsoft's PE format: directory
4 of the optional header is the table of certificates.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

_PE_AT, _OPTIONAL_AT = 0x3C, 24
_PE32_PLUS, _DIRECTORIES_AT, _CERTIFICATES = 0x20B, 112, 4
_CHECKSUM_AT = 64
_SECTION_BYTES = 40
# Of one signature: its length with this header, a revision, a kind.
_HEADER_BYTES, _PKCS7 = 8, 2


class PeError(ValueError):
    """The bytes are no program for UEFI of 64 bits."""


class Layout(NamedTuple):
    """Where things lie in a program, in bytes: ``checksum``, ``table_entry`` which says where the
    signatures are, ``table_at`` and ``table_size`` of these, the first of the headers of
    ``sections``, and their number."""

    checksum: int
    table_entry: int
    table_at: int
    table_size: int
    sections: int
    number: int


def layout(content: bytes) -> Layout:
    """Raises PeError."""
    try:
        (header,) = struct.unpack_from("<I", content, _PE_AT)
        (count,) = struct.unpack_from("<H", content, header + 6)
        (optional,) = struct.unpack_from("<H", content, header + 20)
        (magic,) = struct.unpack_from("<H", content, header + _OPTIONAL_AT)
        entry = header + _OPTIONAL_AT + _DIRECTORIES_AT + _CERTIFICATES * 8
        at, size = struct.unpack_from("<II", content, entry)
    except struct.error:
        raise PeError("it is too short for a program of UEFI") from None
    if content[:2] != b"MZ" or content[header : header + 4] != b"PE\0\0" or magic != _PE32_PLUS:
        raise PeError("it is no program of UEFI for 64 bits")
    if size and not header < at <= at + size <= len(content):
        raise PeError("its signatures lie outside of it")
    checksum = header + _OPTIONAL_AT + _CHECKSUM_AT
    return Layout(checksum, entry, at, size, header + _OPTIONAL_AT + optional, count)


def section(content: bytes, name: str) -> bytes | None:
    """The first section of that name, as long as it is in memory. Raises PeError."""
    where = layout(content)
    for index in range(where.number):
        at = where.sections + index * _SECTION_BYTES
        try:
            size, _, stored, offset = struct.unpack_from("<IIII", content, at + 8)
        except struct.error:
            raise PeError("its list of sections ends early") from None
        if content[at : at + 8].rstrip(b"\0") == name.encode():
            return content[offset : offset + min(size, stored)]
    return None


def signatures(content: bytes) -> list[bytes]:
    """Its signatures, each a message of PKCS #7 in DER. Raises PeError."""
    where = layout(content)
    found = []
    at, end = where.table_at, where.table_at + where.table_size
    while at + _HEADER_BYTES < end:
        length, _, kind = struct.unpack_from("<IHH", content, at)
        if not _HEADER_BYTES < length <= end - at:
            raise PeError("a signature is longer than their table")
        if kind == _PKCS7:
            found.append(_der(content[at + _HEADER_BYTES : at + length]))
        at += -(-length // 8) * 8
    return found


def _der(padded: bytes) -> bytes:
    """A message of DER without the zeros that fill up its place. Raises PeError."""
    if len(padded) < 4 or padded[0] != 0x30:
        raise PeError("a signature is no message")
    count = padded[1] & 0x7F if padded[1] & 0x80 else 0
    length = int.from_bytes(padded[2 : 2 + count], "big") if count else padded[1]
    return padded[: 2 + count + length]


def is_signed(content: bytes) -> bool:
    """False also for what is no such program."""
    try:
        return layout(content).table_size > _HEADER_BYTES
    except PeError:
        return False
