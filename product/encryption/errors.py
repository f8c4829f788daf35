"""Errors of encryption at rest."""

from __future__ import annotations

from product.errors import KubesoloError


class EncryptionError(KubesoloError):
    """Something that keeps the data partition from being made, opened or given another key."""


class ProgramFailedError(EncryptionError):
    """A program ended with an error; ``words`` is what it said, ``status`` its exit status."""

    def __init__(self, program: str, status: int, words: str) -> None:
        last = " | ".join(line.strip() for line in words.splitlines() if line.strip())[-300:]
        super().__init__(f"{program} failed ({status}): {last or 'no output'}")
        self.status = status
        self.words = words


class KeyRefusedError(EncryptionError):
    """A key is there, and does not open the volume."""


class NoTpmError(EncryptionError):
    """The machine shows no TPM 2.0."""


class ForeignTpmError(EncryptionError):
    """The TPM is not the one that sealed the key, or it was cleared since."""


class PolicyError(EncryptionError):
    """The TPM is the right one, and its registers are not what they were when it sealed the key."""


class NoStickError(EncryptionError):
    """No stick with the key is plugged in."""
