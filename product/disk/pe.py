"""Whether a program for UEFI carries a signature; whose, and whether it holds, the firmware says.

Offsets are those of Microsoft's PE format: directory 4 of the optional header is the table of
certificates.
"""

from __future__ import annotations

import struct

_PE_AT, _OPTIONAL_AT = 0x3C, 24
_PE32_PLUS, _DIRECTORIES_AT, _CERTIFICATES = 0x20B, 112, 4


def is_signed(content: bytes) -> bool:
    """False also for what is no such program."""
    try:
        if content[:2] != b"MZ":
            return False
        (header,) = struct.unpack_from("<I", content, _PE_AT)
        (magic,) = struct.unpack_from("<H", content, header + _OPTIONAL_AT)
        if content[header : header + 4] != b"PE\0\0" or magic != _PE32_PLUS:
            return False
        entry = header + _OPTIONAL_AT + _DIRECTORIES_AT + _CERTIFICATES * 8
        at, size = struct.unpack_from("<II", content, entry)
    except struct.error:
        return False
    return bool(size > 8 and header < at and at + size <= len(content))
