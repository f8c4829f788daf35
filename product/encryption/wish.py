"""Whether a disk's first boot shall encrypt its data: the file ``encryption`` of ``kubesolo/``.

Lines ``key=VALUE`` on KSOLOEFI, beside the node's configuration, which is read too late for this.
``#`` begins a comment; keys that nobody knows are passed over.
"""

from __future__ import annotations

from enum import StrEnum

from product.cloudinit.sources import ENCRYPTION_NAME as NAME
from product.encryption.errors import EncryptionError

__all__ = ["MAX_BYTES", "NAME", "Kind", "parse", "write"]

MAX_BYTES = 64 * 1024


class Kind(StrEnum):
    """Where the key lies that opens the data partition at each boot."""

    TPM = "tpm"
    USB = "usb"


def write(kind: Kind) -> bytes:
    """The file that wishes for it."""
    return f"# Read at the disk's first boot alone.\nkey={kind}\n".encode()


def parse(data: bytes) -> Kind:
    """What the file wishes for. Raises EncryptionError."""
    value = None
    for line in data.decode("utf-8-sig", "replace").splitlines():
        key, equals, given = line.partition("#")[0].partition("=")
        if equals and key.strip() == "key":
            value = given.strip().lower()
    try:
        return Kind(value or "")
    except ValueError:
        raise EncryptionError(
            f"kubesolo/{NAME} of KSOLOEFI says key={value or ''}", hint="write key=tpm or key=usb"
        ) from None
