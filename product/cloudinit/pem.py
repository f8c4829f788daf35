"""Certificates and keys in PEM, checked before they reach the node.

A private key is refused wherever a public one belongs, and no message shows any of it.
"""

from __future__ import annotations

import re

MAX_LENGTH = 128 * 1024
_BEGIN = re.compile(r"-----BEGIN ([A-Z0-9 ]{1,40})-----")


def _blocks(value: object, what: str) -> list[tuple[str, str]]:
    """Type and text of each PEM block. Raises ValueError where there is none, or a secret."""
    if not isinstance(value, str):
        raise ValueError(f"needs {what} as PEM text; write it after '|', indented")
    if "PRIVATE KEY" in value:
        raise ValueError(f"holds a PRIVATE key: never hand it out; put {what} here")
    if len(value) > MAX_LENGTH:
        raise ValueError(f"has {len(value)} letters; at most {MAX_LENGTH} are read")
    found = []
    for begin in _BEGIN.finditer(value):
        end = f"-----END {begin.group(1)}-----"
        stop = value.find(end, begin.end())
        if stop < 0:
            raise ValueError(f"is cut off: {end} is missing")
        found.append((begin.group(1), value[begin.start() : stop + len(end)]))
    if not found and value.startswith("/"):
        raise ValueError(f"is a path; put the text of {what} here, after '|', indented")
    if not found:
        raise ValueError(f"is not PEM: it has no line -----BEGIN ...; put {what} here")
    return found


def certificates(value: object) -> str:
    """The certificates of ``value``, one after the other as PEM. Raises ValueError."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    text = ""
    for number, (kind, block) in enumerate(_blocks(value, "a certificate"), start=1):
        if kind not in ("CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE"):
            raise ValueError(f"block {number} is {kind}, not a certificate")
        try:
            certificate = x509.load_pem_x509_certificate(block.encode())
            certificate.public_key()
        except Exception as error:
            # What its parser of ASN.1 raises has many types, panics of Rust among them.
            raise ValueError(f"certificate {number} is damaged: {error}") from None
        text += certificate.public_bytes(Encoding.PEM).decode()
    return text


def public_keys(value: object) -> str:
    """The Ed25519 public keys of ``value`` as PEM. Raises ValueError."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        PublicFormat,
        load_pem_public_key,
    )

    text = ""
    for kind, block in _blocks(value, "a public key"):
        if kind != "PUBLIC KEY":
            raise ValueError(f"is {kind}, not a PUBLIC KEY as kubesolo-release writes it")
        try:
            key = load_pem_public_key(block.encode())
        except Exception:
            raise ValueError("is damaged; copy the whole PEM file") from None
        if not isinstance(key, Ed25519PublicKey):
            raise ValueError("is not an Ed25519 key, which alone sign releases")
        text += key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    return text


def p256_key(value: object) -> str:
    """The public key of a pair that cosign made, as PEM. Raises ValueError."""
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    blocks = _blocks(value, "a public key")
    if len(blocks) != 1 or blocks[0][0] != "PUBLIC KEY":
        raise ValueError("is not one PUBLIC KEY; copy the file cosign.pub")
    try:
        key = load_pem_public_key(blocks[0][1].encode())
    except Exception:
        raise ValueError("is damaged; copy the whole file cosign.pub") from None
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise ValueError("is no key of the curve P-256, which cosign generate-key-pair makes")
    return f"{blocks[0][1]}\n"


def private_key(value: object) -> str:
    """A private key without a passphrase, as PEM. Raises ValueError, which shows none of it."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    if not isinstance(value, str) or len(value) > MAX_LENGTH:
        raise ValueError("needs a private key as PEM text; write it after '|', indented")
    found = re.fullmatch(
        r"\s*(-----BEGIN ([A-Z0-9 ]{0,40}PRIVATE KEY)-----\s.*?-----END \2-----)\s*",
        value,
        re.DOTALL,
    )
    if found is None:
        raise ValueError("is not one private key as PEM: -----BEGIN PRIVATE KEY----- to its end")
    try:
        load_pem_private_key(found[1].encode(), None)
    except TypeError:
        raise ValueError("has a passphrase, which nobody could type on the node") from None
    except Exception:
        raise ValueError("is damaged; copy the whole PEM file") from None
    return f"{found[1]}\n"


def belong_together(certificate: str, key: str) -> bool:
    """Whether the first certificate is that of the private ``key``; both were checked."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    public = x509.load_pem_x509_certificate(certificate.encode()).public_key()
    return public == load_pem_private_key(key.encode(), None).public_key()
