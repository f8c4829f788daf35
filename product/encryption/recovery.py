"""The recovery key: 256 random bits in letters that people can type on any keyboard.

Eight groups of eight letters of modhex, as systemd-cryptenroll writes its recovery keys. The text
itself, in small letters and with its dashes, is the passphrase of the key slot: any Linux system's
cryptsetup opens the volume with it.
"""

from __future__ import annotations

import secrets

from product.encryption.errors import EncryptionError

_LETTERS = "cbdefghijklnrtuv"
_BYTES, _GROUP = 32, 8


def make() -> str:
    """A new key."""
    nibbles = [n for byte in secrets.token_bytes(_BYTES) for n in (byte >> 4, byte & 15)]
    return _grouped("".join(_LETTERS[nibble] for nibble in nibbles))


def parse(typed: str) -> str:
    """The key as it was made, of what a person typed: blanks, dashes and capitals do not matter.

    Raises EncryptionError, which does not repeat it.
    """
    letters = "".join(
        letter for letter in typed.lower() if not (letter.isspace() or letter in "-_")
    )
    if wrong := sorted(set(letters) - set(_LETTERS)):
        raise EncryptionError(
            f"a recovery key has no {' '.join(wrong)}", hint=f"its letters are {_LETTERS}"
        )
    if len(letters) != 2 * _BYTES:
        raise EncryptionError(
            f"a recovery key has {2 * _BYTES} letters, and {len(letters)} were typed"
        )
    return _grouped(letters)


def _grouped(letters: str) -> str:
    return "-".join(letters[at : at + _GROUP] for at in range(0, len(letters), _GROUP))
