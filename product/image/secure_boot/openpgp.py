"""Detached signatures that GRUB checks before it starts a file: OpenPGP, version 4, RSA, SHA-256.

Under Secure Boot a GRUB without shim starts nothing that one of its own verifiers does not vouch
for; the one that it has is for OpenPGP (``pgp``). The firmware then checks the file once more, by
its own signature. Format: RFC 4880, sections 4.2 (packets), 5.2.3 (signatures), 5.5.2 (keys).
"""

from __future__ import annotations

import hashlib
import struct

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, utils
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

_SIGNATURE, _PUBLIC_KEY = 2, 6
_VERSION, _BINARY, _RSA, _SHA256 = 4, 0, 1, 8
_CREATED, _ISSUER = 2, 16


def public_key(key: RSAPublicKey, created: int) -> bytes:
    """The packet of a public key; ``created`` in seconds since 1970 is a part of its name."""
    return _packet(_PUBLIC_KEY, _key_body(key, created))


def sign(key: RSAPrivateKey, key_created: int, data: bytes, signed: int) -> bytes:
    """The detached signature over ``data``, made at ``signed``: equal for equal arguments."""
    hashed = _subpacket(_CREATED, struct.pack(">I", signed))
    head = struct.pack(">BBBBH", _VERSION, _BINARY, _RSA, _SHA256, len(hashed)) + hashed
    digest = hashlib.sha256(data + head + struct.pack(">BBI", _VERSION, 0xFF, len(head))).digest()
    value = key.sign(digest, padding.PKCS1v15(), utils.Prehashed(hashes.SHA256()))
    issuer = _subpacket(_ISSUER, _fingerprint(_key_body(key.public_key(), key_created))[-8:])
    body = head + struct.pack(">H", len(issuer)) + issuer + digest[:2]
    return _packet(_SIGNATURE, body + _number(int.from_bytes(value)))


def _key_body(key: RSAPublicKey, created: int) -> bytes:
    numbers = key.public_numbers()
    return struct.pack(">BIB", _VERSION, created, _RSA) + _number(numbers.n) + _number(numbers.e)


def _fingerprint(body: bytes) -> bytes:
    # SHA-1 is what names a key in this version of the format; it vouches for nothing here.
    return hashlib.sha1(b"\x99" + struct.pack(">H", len(body)) + body).digest()


def _packet(tag: int, body: bytes) -> bytes:
    """With the header of the old format and a length of two bytes."""
    return struct.pack(">BH", 0x80 | tag << 2 | 1, len(body)) + body


def _subpacket(kind: int, body: bytes) -> bytes:
    return struct.pack(">BB", len(body) + 1, kind) + body


def _number(value: int) -> bytes:
    return struct.pack(">H", value.bit_length()) + value.to_bytes((value.bit_length() + 7) // 8)
