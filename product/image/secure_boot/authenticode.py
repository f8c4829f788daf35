"""Signatures of programs for UEFI (Microsoft Authenticode), made so that equal inputs give equal
bytes.

sbsign puts the time of signing into what it signs, so that no two builds are alike; this leaves it
out, as the format allows. One program may carry several signatures: a firmware starts it where it
knows one of the certificates, and refuses it where it has revoked one of them.

Format: "Windows Authenticode Portable Executable Signature Format" (Microsoft), PKCS #7 (RFC 2315).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from product.disk.pe import Layout, PeError, layout

_INDIRECT_DATA = "1.3.6.1.4.1.311.2.1.4"
_PE_IMAGE_DATA = "1.3.6.1.4.1.311.2.1.15"
_SIGNED_DATA = "1.2.840.113549.1.7.2"
_CONTENT_TYPE, _MESSAGE_DIGEST = "1.2.840.113549.1.9.3", "1.2.840.113549.1.9.4"
_SHA256, _RSA = "2.16.840.1.101.3.4.2.1", "1.2.840.113549.1.1.1"
_REVISION, _PKCS7 = 0x0200, 0x0002
_ALIGNED = 8
_SEQUENCE, _SET, _INTEGER, _BITS, _OCTETS, _NULL, _OID = 0x30, 0x31, 2, 3, 4, 5, 6


def sign(program: bytes, signers: Sequence[tuple[RSAPrivateKey, x509.Certificate]]) -> bytes:
    """``program`` with one signature of each signer, in that order, in place of all it has.

    Raises PeError for what is no program for UEFI of 64 bits.
    """
    bare = strip(program)
    padded = bytearray(bare.ljust(-(-len(bare) // _ALIGNED) * _ALIGNED, b"\0"))
    where = layout(bytes(padded))
    digest = image_digest(bytes(padded))
    table = b""
    for key, certificate in signers:
        message = _message(digest, key, certificate)
        entry = struct.pack("<IHH", 8 + len(message), _REVISION, _PKCS7) + message
        table += entry.ljust(-(-len(entry) // _ALIGNED) * _ALIGNED, b"\0")
    struct.pack_into("<II", padded, where.table_entry, len(padded) if table else 0, len(table))
    struct.pack_into("<I", padded, where.checksum, _checksum(bytes(padded) + table, where))
    return bytes(padded) + table


def strip(program: bytes) -> bytes:
    """``program`` without its signatures. Raises PeError."""
    where = layout(program)
    bare = bytearray(program[: where.table_at] if where.table_size else program)
    struct.pack_into("<II", bare, where.table_entry, 0, 0)
    return bytes(bare)


def image_digest(program: bytes) -> bytes:
    """SHA-256 of all but the checksum, the entry of the signatures and these themselves.

    Raises PeError where signatures are not the last of it.
    """
    where = layout(program)
    end = where.table_at if where.table_size else len(program)
    if where.table_size and end + where.table_size != len(program):
        raise PeError("something lies behind the signatures")
    digest = hashlib.sha256(program[: where.checksum])
    digest.update(program[where.checksum + 4 : where.table_entry])
    digest.update(program[where.table_entry + 8 : end])
    return digest.digest()


def _checksum(program: bytes, where: Layout) -> int:
    """The sum that PE has of a file: 16-bit words with their carries, and the length."""
    without = program[: where.checksum] + bytes(4) + program[where.checksum + 4 :]
    if len(without) % 2:
        without += b"\0"
    # A sum of 16-bit words with end-around carry is the number modulo 0xffff.
    total = int.from_bytes(without, "little") % 0xFFFF or 0xFFFF
    return total + len(program)


def _message(digest: bytes, key: RSAPrivateKey, certificate: x509.Certificate) -> bytes:
    sha256 = _der(_SEQUENCE, _oid(_SHA256), _der(_NULL))
    # The fixed words of the format where a file's name could stand: an empty one.
    link = _der(0xA0, _der(0xA2, _der(0x80)))
    image = _der(_SEQUENCE, _oid(_PE_IMAGE_DATA), _der(_SEQUENCE, _der(_BITS, b"\0"), link))
    content = image + _der(_SEQUENCE, sha256, _der(_OCTETS, digest))
    attributes = sorted([
        _der(_SEQUENCE, _oid(_CONTENT_TYPE), _der(_SET, _oid(_INDIRECT_DATA))),
        _der(
            _SEQUENCE,
            _oid(_MESSAGE_DIGEST),
            _der(_SET, _der(_OCTETS, hashlib.sha256(content).digest())),
        ),
    ])  # fmt: skip
    # They are signed as a SET, and stand in the message under a tag of their own.
    value = key.sign(_der(_SET, *attributes), padding.PKCS1v15(), hashes.SHA256())
    signer = _der(
        _SEQUENCE,
        _integer(1),
        _der(_SEQUENCE, certificate.issuer.public_bytes(), _integer(certificate.serial_number)),
        sha256,
        _der(0xA0, *attributes),
        _der(_SEQUENCE, _oid(_RSA), _der(_NULL)),
        _der(_OCTETS, value),
    )
    signed = _der(
        _SEQUENCE,
        _integer(1),
        _der(_SET, sha256),
        _der(_SEQUENCE, _oid(_INDIRECT_DATA), _der(0xA0, _der(_SEQUENCE, content))),
        _der(0xA0, certificate.public_bytes(serialization.Encoding.DER)),
        _der(_SET, signer),
    )
    return _der(_SEQUENCE, _oid(_SIGNED_DATA), _der(0xA0, signed))


def _der(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    if len(body) < 0x80:
        return bytes([tag, len(body)]) + body
    length = len(body).to_bytes((len(body).bit_length() + 7) // 8)
    return bytes([tag, 0x80 | len(length)]) + length + body


def _integer(value: int) -> bytes:
    return _der(_INTEGER, value.to_bytes(value.bit_length() // 8 + 1))


def _oid(dotted: str) -> bytes:
    return _der(_OID, _oid_body(dotted))


def _oid_body(dotted: str) -> bytes:
    first, second, *rest = (int(word) for word in dotted.split("."))
    body = bytearray([first * 40 + second])
    for number in rest:
        groups = [number & 0x7F]
        while number := number >> 7:
            groups.append(number & 0x7F | 0x80)
        body += bytes(reversed(groups))
    return bytes(body)
