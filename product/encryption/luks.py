"""One LUKS2 volume, through cryptsetup: its key slots, its tokens, opening and closing it.

Every key has 256 random bits, so a key derivation that costs time and memory would add nothing:
slots have PBKDF2 with the fewest iterations that cryptsetup takes.
"""

from __future__ import annotations

import json
import os
from typing import Any, NamedTuple

from product.encryption.errors import EncryptionError, KeyRefusedError, ProgramFailedError
from product.encryption.programs import Run, in_memory, path_of, run

NAME = "kubesolo-data"
MAPPED = f"/dev/mapper/{NAME}"
LABEL = "KSOLODATA"
# What a LUKS volume of either version begins with.
MAGIC = b"LUKS\xba\xbe"
_DERIVATION = ("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000")
# cryptsetup(8): exit status 2, "no permission (bad passphrase)".
_REFUSED = 2


class Token(NamedTuple):
    """What the header says beside its slots: ``kind`` is its type, ``slots`` those it opens."""

    number: int
    kind: str
    slots: tuple[int, ...]
    fields: dict[str, Any]


def is_luks(device: str) -> bool:
    """Whether a device or file begins as a LUKS volume does. Raises OSError."""
    with open(device, "rb") as stream:
        return stream.read(len(MAGIC)) == MAGIC


class Volume:
    """A volume on ``device``; every method raises EncryptionError."""

    def __init__(self, device: str, run: Run = run) -> None:
        self.device = device
        self._run = run

    @property
    def uuid(self) -> str:
        """The volume's identifier."""
        return self._run(["cryptsetup", "luksUUID", self.device]).decode().strip()

    def format(self, key: bytes) -> None:
        """Make a new volume that ``key`` opens, in slot 0; what was there is lost."""
        with in_memory(key) as given:
            argv = [
                "cryptsetup", "luksFormat", "--batch-mode", "--type", "luks2", "--label", LABEL,
                "--cipher", "aes-xts-plain64", "--key-size", "512", "--sector-size", "4096",
                *_DERIVATION, "--key-file", path_of(given), self.device,
            ]  # fmt: skip
            self._run(argv, keys=[given])

    def open(self, key: bytes) -> None:
        """Show the content at ``MAPPED``, in the size that the partition has now.

        Raises KeyRefusedError where no slot takes the key.
        """
        self._with(["open", "--type", "luks2"], key, NAME)

    def require(self, key: bytes) -> None:
        """Raise KeyRefusedError where no slot takes the key."""
        self._with(["open", "--test-passphrase", "--type", "luks2"], key)

    def _with(self, words: list[str], key: bytes, *more: str) -> None:
        with in_memory(key) as given:
            argv = ["cryptsetup", *words, "--key-file", path_of(given), self.device, *more]
            try:
                self._run(argv, keys=[given])
            except ProgramFailedError as error:
                if error.status != _REFUSED:
                    raise
                raise KeyRefusedError(
                    f"the key does not open {self.device}",
                    hint="is it the key of this volume, and was it replaced since?",
                ) from None

    def close(self) -> None:
        """Hide the content again, if it is shown."""
        if os.path.exists(MAPPED):
            self._run(["cryptsetup", "close", NAME])

    def add(self, key: bytes, new: bytes) -> int:
        """Give the volume another key; the number of its slot. ``key`` opens it already."""
        before = self.slots()
        with in_memory(key) as given, in_memory(new) as added:
            argv = [
                "cryptsetup", "luksAddKey", "--batch-mode", *_DERIVATION,
                "--key-file", path_of(given), self.device, path_of(added),
            ]  # fmt: skip
            self._run(argv, keys=[given, added])
        made = self.slots() - before
        if len(made) != 1:
            raise EncryptionError(f"{self.device} has {len(made)} new key slots, not one")
        return made.pop()

    def remove_slot(self, number: int) -> None:
        """Destroy a key slot: its key opens nothing any more."""
        self._run(["cryptsetup", "luksKillSlot", "--batch-mode", self.device, str(number)])

    def slots(self) -> set[int]:
        """The key slots in use."""
        return {int(number) for number in self._metadata()["keyslots"]}

    def tokens(self) -> list[Token]:
        """The tokens, by number. One that is no token of ours is told by its kind."""
        found = self._metadata()["tokens"]
        return [
            Token(int(number), fields["type"], tuple(int(s) for s in fields["keyslots"]), fields)
            for number, fields in sorted(found.items(), key=lambda item: int(item[0]))
        ]

    def add_token(self, kind: str, slot: int, fields: dict[str, Any]) -> None:
        """Write down in the header what ``slot`` is opened by; on the disk when this returns."""
        document = json.dumps({"type": kind, "keyslots": [str(slot)], **fields})
        argv = ["cryptsetup", "token", "import", "--json-file", "-", self.device]
        self._run(argv, stdin=document.encode())

    def remove_token(self, number: int) -> None:
        """Forget it."""
        argv = ["cryptsetup", "token", "remove", "--token-id", str(number), self.device]
        self._run(argv)

    def _metadata(self) -> dict[str, Any]:
        text = self._run(["cryptsetup", "luksDump", "--dump-json-metadata", self.device])
        try:
            found: dict[str, Any] = json.loads(text)
            found["keyslots"], found["tokens"]
        except (ValueError, KeyError, TypeError):
            raise EncryptionError(f"the LUKS header of {self.device} cannot be read") from None
        return found
