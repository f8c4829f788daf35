"""Lines of ``authorized_keys``: ``[OPTIONS] TYPE BASE64 [COMMENT]``."""

from __future__ import annotations

import base64
import binascii
import re

from product.cloudinit.checking import shown

TYPES = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)
MIN_RSA_BITS = 2048
MAX_LENGTH = 16 * 1024
_OPTIONS = re.compile(r"(?:[^\s\"]|\"(?:\\.|[^\"\\])*\")+")


def authorized_key(value: object) -> str:
    """One line, blanks folded. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError(f"needs a public key as text, found {shown(value)}")
    text = " ".join(value.split())
    if "PRIVATE KEY" in text:
        raise ValueError("is a PRIVATE key: never hand it out; put the .pub file's line here")
    if not text:
        raise ValueError("is empty; put a line of a .pub file here")
    if len(text) > MAX_LENGTH or not text.isprintable():
        raise ValueError("is not a line of a .pub file")
    found = next(filter(None, (_split(text, name) for name in TYPES)), None)
    if found is None:
        word = text.split(" ")[0]
        if word in ("ssh-dss", "ssh-dsa"):
            raise ValueError("has the type ssh-dss, which no SSH server takes any more")
        if word.startswith("$"):
            raise ValueError(f"{shown(word)} is a template that nobody filled in")
        if word.startswith(("gh:", "github:", "lp:", "http:", "https:")):
            raise ValueError(f"{shown(word)}: keys are not fetched; put the key itself here")
        known = ", ".join(TYPES[:5])
        raise ValueError(f"{shown(word)} is no type of key that the node takes ({known})")
    kind, blob = found
    _check(kind, blob)
    return text


def _split(text: str, kind: str) -> tuple[str, str] | None:
    """Type and base64, where ``kind`` is the word that follows the options, if any."""
    before, word, rest = f" {text}".partition(f" {kind} ")
    if not word or (before and not _is_options(before.strip())):
        return None
    return kind, rest.split(" ")[0]


def _is_options(text: str) -> bool:
    """Whether ``text`` is one word of options, in which blanks stand between quotes alone."""
    return not text or _OPTIONS.fullmatch(text) is not None


def _check(kind: str, text: str) -> None:
    try:
        blob = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError(f"{kind}: the key is not base64; copy the whole line") from None
    fields = _fields(blob)
    if not fields or fields[0] != kind.encode():
        raise ValueError(f"{kind}: the key is damaged or cut off; copy the whole line")
    lengths = {"ssh-ed25519": 2, "ssh-rsa": 3}
    if len(fields) < lengths.get(kind, 3) or (kind == "ssh-ed25519" and len(fields[1]) != 32):
        raise ValueError(f"{kind}: the key is damaged or cut off; copy the whole line")
    if kind == "ssh-rsa":
        bits = int.from_bytes(fields[2], "big").bit_length()
        if bits < MIN_RSA_BITS:
            raise ValueError(f"ssh-rsa: {bits} bits are too few; at least {MIN_RSA_BITS}")


def _fields(blob: bytes) -> list[bytes]:
    """RFC 4253's strings, each after its length; nothing where one is cut off."""
    fields = []
    while blob:
        length = int.from_bytes(blob[:4], "big")
        if len(blob) < 4 + length:
            return []
        fields.append(blob[4 : 4 + length])
        blob = blob[4 + length :]
    return fields
