"""The pinned keys, and the root of trust that one of them signed."""

from __future__ import annotations

import binascii
import contextlib
import os
from typing import TYPE_CHECKING

from product.agent.errors import AgentError
from product.agent.system.files import read_bounded, write_atomic

if TYPE_CHECKING:
    from tuf.api._payload import Root
    from tuf.api.metadata import Metadata
    from tuf.ngclient.fetcher import FetcherInterface

# The folder of a repository.
METADATA = "metadata/"
_ANCHOR = "anchor.json"
ROOT_MAX = 512_000
_PUBKEY_MAX = 64 * 1024
# How many roots one look follows, each of a few KiB: more than a publisher makes in decades.
MAX_ROOTS = 1024
# Bytes of the roots that first contact walks to find the one that a pinned key signed.
_ROOTS_MAX = 16 * 1024 * 1024
_PEM_BEGIN = b"-----BEGIN PUBLIC KEY-----"
_PEM_END = b"-----END PUBLIC KEY-----"
_DER_SEQUENCE = b"\x30"
# RFC 8410: an Ed25519 key has this one encoding, followed by its 32 bytes.
_DER_ED25519 = bytes.fromhex("302a300506032b6570032100")


def read_pinned_keys(pubkey: str | None) -> frozenset[str]:
    """The Ed25519 public keys in the PEM file ``pubkey``, as raw bytes in hex.

    Raises AgentError ``no-pubkey`` where there is no file or no such key in it.
    """
    if not pubkey:
        raise AgentError(
            "no key is pinned, so no release can be trusted",
            code="no-pubkey",
            hint="set pubkey= in update.conf to the publisher's root.pub.pem",
        )
    hint = "it must hold the publisher's root.pub.pem"
    try:
        text = read_bounded(pubkey, _PUBKEY_MAX)
    except OSError as error:
        message = f"cannot read the pinned key {pubkey}: {error.strerror}"
        raise AgentError(message, code="no-pubkey", hint=hint) from None
    except ValueError as error:
        raise AgentError(str(error), code="no-pubkey", hint=hint) from None
    keys = set()
    for block in text.split(_PEM_END)[:-1]:
        encoded = block.partition(_PEM_BEGIN)[2]
        try:
            der = binascii.a2b_base64(b"".join(encoded.split()), strict_mode=True)
        except ValueError:
            der = b""
        if der[:1] != _DER_SEQUENCE:
            message = f"{pubkey} holds a malformed public key"
            raise AgentError(message, code="no-pubkey", hint=hint)
        if der[: len(_DER_ED25519)] != _DER_ED25519 or len(der) != len(_DER_ED25519) + 32:
            message = f"{pubkey} holds a key that is not Ed25519"
            raise AgentError(message, code="no-pubkey", hint=hint)
        keys.add(der[len(_DER_ED25519) :].hex())
    if not keys:
        raise AgentError(f"{pubkey} holds no public key", code="no-pubkey", hint=hint)
    return frozenset(keys)


def ensure_anchor(
    metadata_dir: str, fetcher: FetcherInterface, address: str, pinned: frozenset[str]
) -> None:
    """Leave a trusted ``root.json`` in ``metadata_dir``.

    What is stored counts as long as the root it began with was signed by a key that is pinned
    still: taking a key out of the pin withdraws the trust that rested on it. ``address`` is the
    source's, for people.
    """
    from tuf.api.exceptions import RepositoryError

    anchor, root = f"{metadata_dir}/{_ANCHOR}", f"{metadata_dir}/root.json"
    anchored = False
    with contextlib.suppress(OSError, ValueError, RepositoryError):
        anchored = _vouched(read_bounded(anchor, ROOT_MAX), pinned)
    if anchored and _is_root(root):
        return
    data = _first_root(fetcher, address, pinned)
    if not anchored:
        # Another trust begins: what an earlier one proved must not bind it, or let it be
        # stopped for ever by inflated version numbers.
        for name in ("timestamp.json", "snapshot.json", "targets.json"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{metadata_dir}/{name}")
    # The anchor last: without it the next run starts here again.
    write_atomic(root, data, mode=0o644)
    write_atomic(anchor, data, mode=0o644)


def _first_root(fetcher: FetcherInterface, address: str, pinned: frozenset[str]) -> bytes:
    """The oldest root on the server that a pinned key signed.

    That is version 1, unless the pin names a key that became a root key by rotation.
    """
    from tuf.api.exceptions import DownloadHTTPError

    left = _ROOTS_MAX
    for version in range(1, MAX_ROOTS + 1):
        try:
            path = f"{METADATA}{version}.root.json"
            data = fetcher.download_bytes(path, min(ROOT_MAX, left))
        except DownloadHTTPError as error:
            if version == 1 or error.status_code not in (403, 404):
                raise
            break
        if _vouched(data, pinned):
            return data
        left -= len(data)
    raise AgentError(
        f"{address}/{METADATA} is a repository that no key of pubkey has signed",
        code="untrusted-signature",
        hint="pubkey= must hold this publisher's root key; if it does, somebody else answers",
    )


def _vouched(data: bytes, pinned: frozenset[str]) -> bool:
    """Whether ``data`` is a root that holds by its own threshold and that a pinned key signed."""
    root = parse_root(data)
    result = root.signed.get_verification_result("root", root.signed_bytes, root.signatures)
    return result.verified and any(
        key.keytype == "ed25519" and key.keyval.get("public") in pinned
        for key in result.signed.values()
    )


def parse_root(data: bytes) -> Metadata[Root]:
    from tuf.api._payload import Root
    from tuf.api.exceptions import RepositoryError
    from tuf.api.metadata import Metadata

    root: Metadata[Root] = Metadata.from_bytes(data)
    if not isinstance(root.signed, Root):
        raise RepositoryError(f"expected root metadata, got {root.signed.type}")
    return root


def _is_root(path: str) -> bool:
    from tuf.api.exceptions import RepositoryError

    try:
        root = parse_root(read_bounded(path, ROOT_MAX))
        root.signed.verify_delegate("root", root.signed_bytes, root.signatures)
    except (OSError, ValueError, RepositoryError):
        return False
    return True
