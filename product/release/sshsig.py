"""Signatures that ``ssh-keygen -Y verify`` reads, of Ed25519 keys.

OpenSSH is on Linux, macOS and Windows, and needs no keyring or network for it. The format is
PROTOCOL.sshsig of OpenSSH's sources.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from product.release.errors import DownloadsError

# What `ssh-keygen -Y sign` is told for files.
NAMESPACE = "file"
_MAGIC = b"SSHSIG"
_VERSION = 1
_ALGORITHM = b"ssh-ed25519"
_HASH = b"sha512"
_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
_COLUMNS = 70


def sign(key: Ed25519PrivateKey, data: bytes) -> str:
    """The armoured signature of ``data``; the same key and data give the same text."""
    made = key.sign(_signed(data))
    blob = (
        _MAGIC
        + struct.pack(">I", _VERSION)
        + b"".join(
            map(
                _string,
                (
                    _public_blob(key.public_key()),
                    NAMESPACE.encode(),
                    b"",
                    _HASH,
                    _string(_ALGORITHM) + _string(made),
                ),
            )
        )
    )
    text = base64.b64encode(blob).decode()
    lines = [text[at : at + _COLUMNS] for at in range(0, len(text), _COLUMNS)]
    return "\n".join([_BEGIN, *lines, _END]) + "\n"


def verify(key: Ed25519PublicKey, data: bytes, armoured: str) -> None:
    """Raise DownloadsError unless ``armoured`` is the signature of ``data`` by ``key``."""
    body = armoured.strip().removeprefix(_BEGIN).removesuffix(_END)
    try:
        blob = base64.b64decode("".join(body.split()), validate=True)
        version = blob[len(_MAGIC) : len(_MAGIC) + 4]
        if not blob.startswith(_MAGIC) or version != struct.pack(">I", _VERSION):
            raise DownloadsError("the signature is none of SSH's")
        public, namespace, _reserved, hashed, signature = _strings(blob[len(_MAGIC) + 4 :], 5)
        algorithm, raw = _strings(signature, 2)
    except (binascii.Error, struct.error, ValueError):
        raise DownloadsError("the signature is damaged or cut off") from None
    if public != _public_blob(key):
        raise DownloadsError(
            "the signature is by another key than the one given",
            hint="is it the project's own key, and the one of this release? docs/publishing.md",
        )
    if (namespace, hashed, algorithm) != (NAMESPACE.encode(), _HASH, _ALGORITHM):
        raise DownloadsError("the signature was not made for a file of a release")
    try:
        key.verify(raw, _signed(data))
    except InvalidSignature:
        raise DownloadsError("the signature is not one of these bytes: they were changed") from None


def public_line(key: Ed25519PublicKey) -> str:
    """The key as OpenSSH writes it: ``ssh-ed25519 AAAA...``."""
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def _signed(data: bytes) -> bytes:
    """What the key signs in the place of ``data``."""
    digest = hashlib.sha512(data).digest()
    return _MAGIC + b"".join(map(_string, (NAMESPACE.encode(), b"", _HASH, digest)))


def _public_blob(key: Ed25519PublicKey) -> bytes:
    return _string(_ALGORITHM) + _string(key.public_bytes(Encoding.Raw, PublicFormat.Raw))


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _strings(data: bytes, count: int) -> list[bytes]:
    """``count`` strings that fill ``data``. Raises ValueError, struct.error."""
    found = []
    for _ in range(count):
        (length,) = struct.unpack_from(">I", data)
        if len(data) < 4 + length:
            raise ValueError("a string is longer than the data")
        found.append(data[4 : 4 + length])
        data = data[4 + length :]
    if data:
        raise ValueError("something follows the last string")
    return found
