"""The token by which the boot environment names a trial.

Format: ``B-<16 digits>-<8 digits>``: the slot, the beginning of the SHA-256 of its manifest, and a
random number, both hexadecimal. So the boot environment alone tells which release was tried, where
the state file was lost. An older agent's token is the random number alone.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

_FORMAT = re.compile(r"([AB])-([0-9a-f]{16})-[0-9a-f]{8}")


class Token(NamedTuple):
    """Slot and beginning of the digest of the release that was armed."""

    slot: str
    digest: str


def make_token(slot: str, digest: str) -> str:
    """A new one, for the release that is written into ``slot``."""
    return f"{slot}-{digest[:16]}-{os.urandom(4).hex()}"


def parse_token(text: str | None) -> Token | None:
    """None for an older agent's, or garbage."""
    found = _FORMAT.fullmatch(text or "")
    return Token(found[1], found[2]) if found else None
