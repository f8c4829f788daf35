"""A password of GRUB's menu as the hash that its ``password_pbkdf2`` reads (GRUB manual, 17.1)."""

from __future__ import annotations

import getpass
import hashlib
import os
from typing import TextIO

from product.cloudinit.errors import CloudInitError
from product.cloudinit.security import PASSWORD_PREFIX

# OWASP's advice for PBKDF2 with SHA-512 is 210,000; GRUB's own tool takes 10,000. GRUB computes
# it in a second or so.
ITERATIONS = 210_000
_BYTES = 64
MIN_LENGTH = 8
# GRUB reads no more from a keyboard (grub-core/lib/crypto.c).
MAX_LENGTH = 255


def ask(stream: TextIO) -> str:
    """A password that is typed twice, or the first line of a pipe.

    Raises CloudInitError where it is none that can be typed at GRUB's prompt.
    """
    if stream.isatty():
        password = getpass.getpass("password of the boot menu: ")
        if getpass.getpass("again: ") != password:
            raise CloudInitError("the two passwords differ", hint="run it again")
    else:
        password = stream.readline().rstrip("\r\n")
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        raise CloudInitError(
            f"the password has {len(password)} characters; {MIN_LENGTH} to {MAX_LENGTH} are taken",
            hint="choose another one",
        )
    if not (password.isascii() and password.isprintable()):
        raise CloudInitError(
            "the password has a letter that no keyboard gives to GRUB: its layout is American, "
            "ASCII alone",
            hint="choose one of letters and digits",
        )
    return password


def hashed(password: str) -> str:
    """``grub.pbkdf2.sha512.ITERATIONS.SALT.HASH``, with a new salt."""
    salt = os.urandom(_BYTES)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ITERATIONS, _BYTES)
    return f"{PASSWORD_PREFIX}.{ITERATIONS}.{salt.hex().upper()}.{digest.hex().upper()}"
