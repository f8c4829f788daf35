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
# What Dropbear knows; a line with any other option lets nobody in.
OPTIONS = (
    "no-port-forwarding",
    "no-agent-forwarding",
    "no-X11-forwarding",
    "no-pty",
    "restrict",
    "command=",
    "permitopen=",
    "no-touch-required",
    "verify-required",
)
_FOLDED = frozenset(option.lower() for option in OPTIONS)
_QUOTED = re.compile(r"\"(?:\\.|[^\"\\])*\"")
_OPTION = re.compile(r"(?:[^\s\",]|\"(?:\\.|[^\"\\])*\")*")
_OPTIONS = re.compile(r"(?:[^\s\"]|\"(?:\\.|[^\"\\])*\")+")


def authorized_key(value: object) -> str:
    """One line, blanks folded, without the byte order mark of its file. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError(f"needs a public key as text, found {shown(value)}")
    text = " ".join(value.removeprefix("\ufeff").split())
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
    options, kind, blob = found
    _check_options(options)
    _check(kind, blob)
    return text


def _split(text: str, kind: str) -> tuple[str, str, str] | None:
    """Options, type and base64, where ``kind`` is the word that follows the options, if any."""
    before, word, rest = f" {text}".partition(f" {kind} ")
    if not word or (before and not _is_options(before.strip())):
        return None
    return before.strip(), kind, rest.split(" ")[0]


def _is_options(text: str) -> bool:
    """Whether ``text`` is one word of options, in which blanks stand between quotes alone."""
    return not text or _OPTIONS.fullmatch(text) is not None


def _check_options(text: str) -> None:
    """Raises ValueError for an option that Dropbear does not take."""
    at = 0
    while text and at <= len(text):
        option = _OPTION.match(text, at)
        assert option is not None, "it matches nothing, too"
        _check_option(option[0])
        at = option.end() + 1


def _check_option(text: str) -> None:
    if not text:
        raise ValueError("has an empty option before the key; write one comma between two")
    name, equals, value = text.partition("=")
    if (name + equals).lower() not in _FOLDED:
        raise ValueError(
            f"the option {shown(name)[1:-1]}{equals} is none that the node's SSH server knows, and "
            f"it would refuse the key; {', '.join(OPTIONS)} are"
        )
    if not equals:
        return
    if not _QUOTED.fullmatch(value):
        raise ValueError(f'{name}= needs its value in quotes: {name}="..."')
    host, _, port = value[1:-1].rpartition(":")
    if name.lower() == "permitopen" and not (host and _is_port(port)):
        raise ValueError(f"{name}=: {shown(value[1:-1])} is not HOST:PORT")


def _is_port(text: str) -> bool:
    """Whether it is a port's number, or the asterisk for every port."""
    number = text.isascii() and text.isdigit() and len(text) < 6
    return text == "*" or (number and 0 < int(text) < 65536)


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
