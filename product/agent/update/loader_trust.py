"""Whether this firmware starts a boot loader that was signed by others than the installed one.

An owner's keys and Microsoft's are two worlds: a firmware that trusts one refuses what is signed
for the other, and a machine with that boot loader does not start again without a person.

The firmware's list is its variable ``db`` (UEFI 2.10, 32.4.1): lists of signatures, each with the
kind of its entries; what counts here are certificates.
"""

from __future__ import annotations

import struct

from product.agent.errors import AgentError
from product.agent.system.files import read_bounded
from product.agent.system.paths import Paths
from product.disk.pe import PeError, signatures

_DB = "db-d719b2cb-3d3a-4596-a3bc-dad00e67656f"
_MAX_DB = 1 << 20
_ATTRIBUTES, _LIST_BYTES, _OWNER = 4, 28, 16
# a5c059a1-94e4-4aa7-87b5-ab155c2bf072, EFI_CERT_X509_GUID.
_X509 = bytes.fromhex("a159c0a5e494a74a87b5ab155c2bf072")


def require_trusted(paths: Paths, name: str, wanted: bytes, installed: bytes | None) -> None:
    """Raise AgentError where the firmware's ``db`` has none of the certificates that the program
    ``wanted``, called ``name``, is signed with. Where it does not explain the ``installed`` boot
    loader either (it has its digest, or cannot be read), one certificate of that is enough."""
    known, ours = trusted_certificates(paths), _certificates(wanted)
    if ours & known:
        return
    theirs = _certificates(installed or b"")
    if not theirs & known and ours & theirs:
        return
    raise AgentError(
        f"{name} of the release's boot loader has no signature that this firmware trusts",
        hint="the old boot loader stays; enrol the certificate in the firmware first",
        code="loader-untrusted",
    )


def trusted_certificates(paths: Paths) -> set[bytes]:
    """The certificates of ``db`` in DER; none where it cannot be read."""
    try:
        content = read_bounded(f"{paths.efi_variables}/{_DB}", _MAX_DB)
    except (OSError, ValueError):
        return set()
    found = set()
    at = _ATTRIBUTES
    while at + _LIST_BYTES <= len(content):
        size, head, entry = struct.unpack_from("<III", content, at + 16)
        if size < _LIST_BYTES or entry <= _OWNER:
            break
        if content[at : at + 16] == _X509:
            first, end = at + _LIST_BYTES + head, min(at + size, len(content))
            for one in range(first, end - entry + 1, entry):
                found.add(content[one + _OWNER : one + entry])
        at += size
    return found


def _certificates(program: bytes) -> set[bytes]:
    """Those that the program's signatures bring, in DER: the signers' and their issuers'."""
    from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

    try:
        return {
            certificate.public_bytes(Encoding.DER)
            for message in signatures(program)
            for certificate in pkcs7.load_der_pkcs7_certificates(message)
        }
    except (PeError, ValueError):
        return set()
