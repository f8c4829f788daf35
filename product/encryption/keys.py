"""What opens a volume: a key slot each, and a token in the LUKS header that says whose it is.

Each step leaves a volume that opens: a new slot is there and proven before the old one goes. A slot
without a token is one whose making was cut short, or an operator's own, and is left alone.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress

from product.encryption import recovery
from product.encryption.errors import EncryptionError
from product.encryption.luks import Token, Volume
from product.encryption.stick import KEY_BYTES, Sticks
from product.encryption.tpm import Sealed, Tpm
from product.encryption.wish import Kind

_TYPES = {Kind.TPM: "kubesolo-tpm", Kind.USB: "kubesolo-usb"}
RECOVERY = "kubesolo-recovery"


class Keys:
    """The keys of one volume; every method raises EncryptionError."""

    def __init__(
        self, volume: Volume, tpm: Tpm | None = None, sticks: Sticks | None = None
    ) -> None:
        self.volume = volume
        self.tpm = tpm or Tpm()
        self.sticks = sticks or Sticks()

    def format(self, kind: Kind) -> bytes:
        """Make the volume, with a key of that kind alone; the key, as it was read back."""
        # Before anything is written: is there a place for the key?
        if kind is Kind.TPM:
            self.tpm.require()
        else:
            self.sticks.wait()
        key = secrets.token_bytes(KEY_BYTES)
        self.volume.format(key)
        (slot,) = self.volume.slots()
        self._entrust(kind, key, slot)
        (token,) = self.of(kind)
        return self.key_of(kind, token)

    def of(self, kind: Kind) -> list[Token]:
        """The tokens of a kind."""
        return [token for token in self.volume.tokens() if token.kind == _TYPES[kind]]

    def recovery_tokens(self) -> list[Token]:
        """Those of the recovery key: none before it was shown."""
        return [token for token in self.volume.tokens() if token.kind == RECOVERY]

    def key_of(self, kind: Kind, token: Token, seconds: float | None = None) -> bytes:
        """The key that a token tells of; a stick may take ``seconds`` to come."""
        if kind is Kind.TPM:
            self.tpm.require()
            return self.tpm.unseal(Sealed.read(token.fields))
        if seconds is None:
            return self.sticks.read(self.volume.uuid)
        return self.sticks.read(self.volume.uuid, seconds)

    def any_key(self) -> bytes | None:
        """A key that this machine has at hand, without a person."""
        for kind in Kind:
            for token in self.of(kind):
                with suppress(EncryptionError):
                    key = self.key_of(kind, token, 0.0)
                    self.volume.require(key)
                    return key
        return None

    def enroll(self, kind: Kind, key: bytes) -> None:
        """Give the volume, which ``key`` opens, a new key of that kind in place of its old one."""
        if kind is Kind.TPM:
            self.tpm.require()
        else:
            self.sticks.wait(0.0)
        old = self.of(kind)
        new = secrets.token_bytes(KEY_BYTES)
        slot = self.volume.add(key, new)
        self._entrust(kind, new, slot)
        self._forget(old)

    def _entrust(self, kind: Kind, key: bytes, slot: int) -> None:
        """Have the TPM or the stick keep a key, prove that it gives it back, and write it down."""
        if kind is Kind.TPM:
            sealed = self.tpm.seal(key)
            if self.tpm.unseal(sealed) != key:
                raise EncryptionError("the TPM gives back another key than it was given")
            self.volume.add_token(_TYPES[kind], slot, sealed.fields())
            return
        uuid = self.volume.uuid
        self.sticks.write(uuid, key)
        if self.sticks.read(uuid, 0.0) != key:
            raise EncryptionError("the stick does not give back the key that was written to it")
        self.volume.add_token(_TYPES[kind], slot, {"file": f"{uuid}.key"})

    def new_recovery(self, key: bytes, show: Callable[[str], None]) -> None:
        """Make a recovery key in place of the one that there is, and ``show`` it once."""
        old = self.recovery_tokens()
        text = recovery.make()
        slot = self.volume.add(key, text.encode())
        show(text)
        self.volume.add_token(RECOVERY, slot, {})
        self._forget(old)

    def remove(self, kind: Kind) -> None:
        """Take away the keys of a kind. Raises EncryptionError where no other would be left."""
        mine = self.of(kind)
        if not mine:
            raise EncryptionError(f"{self.volume.device} has no key of the kind {kind}")
        numbers = {token.number for token in mine}
        if not [t for t in self.volume.tokens() if t.number not in numbers and t.slots]:
            raise EncryptionError(
                f"the {kind} key is the only one of {self.volume.device}",
                hint="give it another one first: kubesolo-data recovery-key new",
            )
        self._forget(mine)

    def _forget(self, tokens: list[Token]) -> None:
        for token in tokens:
            for slot in token.slots:
                self.volume.remove_slot(slot)
            self.volume.remove_token(token.number)
