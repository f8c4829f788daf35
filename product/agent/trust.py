"""Which release to trust: the TUF client of the node.

``metadata_dir`` keeps what has been proved: ``anchor.json`` (the first root, which a pinned key
signed), ``root.json``, ``timestamp.json``, ``snapshot.json`` and ``targets.json``. Nothing there
needs protection from loss: what is missing or damaged is fetched and verified again.

Codes of the errors: ``no-server``, ``no-pubkey``, ``no-release``, ``server-unreachable``,
``bad-redirect``, ``untrusted-signature``, ``expired``, ``metadata-rollback``, ``size-mismatch``,
``digest-mismatch``, ``bad-metadata``.

tuf and what it needs are imported inside functions: on the node they cost more than most commands
take.
"""

from __future__ import annotations

import binascii
import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from product.agent import standins
from product.agent.durable import make_directories, read_bounded, write_atomic
from product.agent.errors import AgentError
from product.agent.sources import (
    DEFAULT_POLICY,
    FetchPolicy,
    HttpStatusError,
    check_status,
    new_connections,
    open_url,
    server_url,
)
from product.manifest import MANIFEST_NAME, Manifest, ManifestError

if TYPE_CHECKING:
    from tuf.api._payload import Root, TargetFile
    from tuf.api.metadata import Metadata
    from tuf.ngclient.fetcher import FetcherInterface
    from tuf.ngclient.updater import Updater

    from product.agent.config import Config
    from product.agent.connections import Connections, Response

RELEASE_FILE = "/usr/lib/kubesolo/release.json"
# Set by the publisher in timestamp.json: when it was signed (product.release.repository).
ISSUED_FIELD = "x-kubesolo-issued"
TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"

_ANCHOR = "anchor.json"
_ROOT_MAX = 512_000
_PUBKEY_MAX = 64 * 1024
# How many roots first contact walks to find the one that a pinned key signed.
_MAX_ANCHOR_VERSION = 64
# Metadata is small; a server that takes longer than this for one file is not serving it.
_METADATA_SECONDS = 60.0
_PEM_BEGIN = b"-----BEGIN PUBLIC KEY-----"
_PEM_END = b"-----END PUBLIC KEY-----"
_DER_SEQUENCE = b"\x30"
# RFC 8410: an Ed25519 key has this one encoding, followed by its 32 bytes.
_DER_ED25519 = bytes.fromhex("302a300506032b6570032100")
_CHUNK = 64 * 1024


class TrustedRelease(NamedTuple):
    """A channel's release, every field signed; ``digest`` is the SHA-256 of ``manifest_bytes``.

    ``architecture`` is the release's own: whether it fits the node is for the gate to decide.
    """

    manifest: Manifest
    manifest_bytes: bytes
    digest: str
    version: str
    channel: str
    architecture: str
    min_compatible_version: str | None
    release_date: str | None
    notes: str


def find_release(
    config: Config,
    *,
    architecture: str,
    metadata_dir: str,
    now: datetime | None = None,
    release_file: str = RELEASE_FILE,
    policy: FetchPolicy = DEFAULT_POLICY,
) -> TrustedRelease:
    """The release that the server of ``config`` has for its channel and ``architecture``.

    ``now`` is the node's clock where it is not the system's; ``release_file`` gives the build
    date of the running image, before which no clock is believed. Raises AgentError.
    """
    base = server_url(config.server, "")
    pinned = read_pinned_keys(config.pubkey)
    clock = now or datetime.now(UTC)
    standins.install()
    with new_connections(policy) as connections, _named_errors(base, clock):
        fetcher = _new_fetcher(connections)
        make_directories(metadata_dir)
        _ensure_anchor(metadata_dir, fetcher, f"{base}metadata/", pinned)
        reference = max([clock, *_floor(metadata_dir, release_file)])
        updater = _new_updater(metadata_dir, base, fetcher, reference)
        updater.refresh()
        # The timestamp just verified may prove that the clock is further behind than was known.
        proved = max([reference, *_floor(metadata_dir, release_file)])
        _refuse_expired(metadata_dir, proved)
        path = f"{config.channel}/{architecture}/{MANIFEST_NAME}"
        target = updater.get_targetinfo(path)
        if target is None:
            raise AgentError(
                f"{config.server} has no release of the channel {config.channel!r} for "
                f"{architecture}",
                code="no-release",
                hint="check channel= in update.conf",
            )
        data = _fetch_target(fetcher, base, target)
        return _release(config.channel, target, data)


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


def _ensure_anchor(
    metadata_dir: str, fetcher: FetcherInterface, url: str, pinned: frozenset[str]
) -> None:
    """Leave a trusted ``root.json`` in ``metadata_dir``.

    What is stored counts as long as the root it began with was signed by a key that is pinned
    still: taking a key out of the pin withdraws the trust that rested on it.
    """
    from tuf.api.exceptions import RepositoryError

    anchor, root = f"{metadata_dir}/{_ANCHOR}", f"{metadata_dir}/root.json"
    anchored = False
    with contextlib.suppress(OSError, ValueError, RepositoryError):
        anchored = _vouched(read_bounded(anchor, _ROOT_MAX), pinned)
    if anchored and _is_root(root):
        return
    data = _first_root(fetcher, url, pinned)
    if not anchored:
        # Another trust begins: what an earlier one proved must not bind it, or let it be
        # stopped for ever by inflated version numbers.
        for name in ("timestamp.json", "snapshot.json", "targets.json"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{metadata_dir}/{name}")
    # The anchor last: without it the next run starts here again.
    write_atomic(root, data, mode=0o644)
    write_atomic(anchor, data, mode=0o644)


def _first_root(fetcher: FetcherInterface, url: str, pinned: frozenset[str]) -> bytes:
    """The oldest root on the server that a pinned key signed.

    That is version 1, unless the pin names a key that became a root key by rotation.
    """
    from tuf.api.exceptions import DownloadHTTPError

    for version in range(1, _MAX_ANCHOR_VERSION + 1):
        try:
            data = fetcher.download_bytes(f"{url}{version}.root.json", _ROOT_MAX)
        except DownloadHTTPError as error:
            if version == 1 or error.status_code not in (403, 404):
                raise
            break
        if _vouched(data, pinned):
            return data
    raise AgentError(
        f"{url} is a repository that no key of pubkey has signed",
        code="untrusted-signature",
        hint="pubkey= must hold this publisher's root key; if it does, somebody else answers",
    )


def _vouched(data: bytes, pinned: frozenset[str]) -> bool:
    """Whether ``data`` is a root that holds by its own threshold and that a pinned key signed."""
    root = _parse_root(data)
    result = root.signed.get_verification_result("root", root.signed_bytes, root.signatures)
    return result.verified and any(
        key.keytype == "ed25519" and key.keyval.get("public") in pinned
        for key in result.signed.values()
    )


def _parse_root(data: bytes) -> Metadata[Root]:
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
        root = _parse_root(read_bounded(path, _ROOT_MAX))
        root.signed.verify_delegate("root", root.signed_bytes, root.signatures)
    except (OSError, ValueError, RepositoryError):
        return False
    return True


def _floor(metadata_dir: str, release_file: str) -> list[datetime]:
    """Moments that have certainly passed: the image's build, and the newest signing seen.

    The signing time is read from metadata that the trusted root vouches for, not from a note
    beside it, so that replacing a stolen timestamp key also takes back what the thief claimed.
    """
    from tuf.api.exceptions import RepositoryError
    from tuf.api.metadata import Metadata

    moments = []
    with contextlib.suppress(OSError, ValueError, TypeError, OverflowError):
        document = json.loads(read_bounded(release_file, _ROOT_MAX))
        if isinstance(document, dict) and "source_date" in document:
            moments.append(_moment(document["source_date"]))
    with contextlib.suppress(OSError, ValueError, TypeError, RepositoryError):
        root = _parse_root(read_bounded(f"{metadata_dir}/root.json", _ROOT_MAX)).signed
        timestamp = Metadata.from_bytes(read_bounded(f"{metadata_dir}/timestamp.json", _ROOT_MAX))
        root.verify_delegate("timestamp", timestamp.signed_bytes, timestamp.signatures)
        issued = timestamp.signed.unrecognized_fields.get(ISSUED_FIELD)
        if isinstance(issued, str):
            moments.append(_moment(issued))
    return moments


def _moment(value: object) -> datetime:
    """Seconds since 1970 or UTC in ISO 8601; raises ValueError or TypeError for anything else."""
    if isinstance(value, str):
        return datetime.strptime(value, TIME_FORMAT).replace(tzinfo=UTC)
    if isinstance(value, int) and not isinstance(value, bool):
        return datetime.fromtimestamp(value, UTC)
    raise TypeError(f"{value!r} is no date")


def _refuse_expired(metadata_dir: str, moment: datetime) -> None:
    """Raise tuf's ExpiredMetadataError where the metadata just verified has ended by ``moment``."""
    from tuf.api.exceptions import ExpiredMetadataError
    from tuf.api.metadata import Metadata

    for role in ("root", "timestamp", "snapshot", "targets"):
        with open(f"{metadata_dir}/{role}.json", "rb") as file:
            metadata = Metadata.from_bytes(file.read())
        if metadata.signed.is_expired(moment):
            raise ExpiredMetadataError(f"{role}.json is expired")


def _new_updater(store: str, base: str, fetcher: FetcherInterface, reference: datetime) -> Updater:
    from tuf.ngclient.updater import Updater

    class NodeUpdater(Updater):
        """tuf's client with a given time, which keeps metadata across a power cut.

        Both are private to tuf 5.1, which the guest's package and the project's pin fix; the
        tests of this module fail where another version no longer takes them.
        """

        def _persist_metadata(self, rolename: str, data: bytes) -> None:
            write_atomic(f"{store}/{rolename}.json", data, mode=0o644)

    updater = NodeUpdater(store, f"{base}metadata/", fetcher=fetcher)
    updater._trusted_set.reference_time = reference
    return updater


def _new_fetcher(connections: Connections) -> FetcherInterface:
    from tuf.api.exceptions import DownloadHTTPError, SlowRetrievalError
    from tuf.ngclient.fetcher import FetcherInterface

    class Fetcher(FetcherInterface):
        """Downloads by the rules of ``sources.open_url``; the caller bounds the size."""

        def _fetch(self, url: str) -> Iterator[bytes]:
            response = open_url(connections, url)
            try:
                check_status(response, url)
            except HttpStatusError as error:
                response.close()
                raise DownloadHTTPError(error.message, error.status) from None
            except AgentError:
                response.close()
                raise
            return self._stream(response, url)

        def fetch(self, url: str) -> Iterator[bytes]:
            # tuf's own would hide an AgentError's code behind a DownloadError.
            return self._fetch(url)

        @staticmethod
        def _stream(response: Response, url: str) -> Iterator[bytes]:
            deadline = time.monotonic() + _METADATA_SECONDS
            try:
                while chunk := response.read1(_CHUNK):
                    yield chunk
                    if time.monotonic() > deadline:
                        raise SlowRetrievalError(f"{url} took over {_METADATA_SECONDS:.0f} s")
            finally:
                response.close()

    return Fetcher()


@contextlib.contextmanager
def _named_errors(base: str, clock: datetime) -> Iterator[None]:
    """Give each of tuf's exceptions its code and words that say what to do."""
    from tuf.api import exceptions as tuf

    tamper = "the server, or somebody between, does not serve what the publisher signed"
    try:
        yield
    except tuf.UnsignedMetadataError as error:
        raise AgentError(
            f"metadata of {base} is not signed by the keys that are trusted: {error}",
            code="untrusted-signature",
            hint=tamper,
        ) from None
    except tuf.ExpiredMetadataError as error:
        raise AgentError(
            f"metadata of {base} is too old to be trusted: {error} (this node's clock: "
            f"{clock.astimezone(UTC).strftime(TIME_FORMAT)})",
            code="expired",
            hint="if the clock is right, the publisher must run: kubesolo-release refresh",
        ) from None
    except tuf.BadVersionNumberError as error:
        raise AgentError(
            f"{base} serves older metadata than this node has seen: {error}",
            code="metadata-rollback",
            hint=tamper,
        ) from None
    except tuf.LengthOrHashMismatchError as error:
        raise AgentError(
            f"metadata of {base} is not what was signed: {error}",
            code="digest-mismatch",
            hint=tamper,
        ) from None
    except tuf.DownloadLengthMismatchError as error:
        raise AgentError(
            f"{base} sends more than was signed: {error}", code="size-mismatch", hint=tamper
        ) from None
    except tuf.DownloadError as error:
        raise AgentError(
            str(error),
            code="server-unreachable",
            hint="check server= in update.conf: it must name the directory above metadata/",
        ) from None
    except (tuf.RepositoryError, ManifestError, ValueError, KeyError, TypeError) as error:
        # tuf reads hostile JSON, and lets some of what it trips over through.
        raise AgentError(
            f"metadata of {base} cannot be read: {error}", code="bad-metadata", hint=tamper
        ) from None
    except RecursionError:
        raise AgentError(f"metadata of {base} is nested too deeply", code="bad-metadata") from None
    except OSError as error:
        raise AgentError(
            f"cannot keep trusted metadata in {error.filename}: {error.strerror}",
            code="write-failed",
        ) from None


def _fetch_target(fetcher: FetcherInterface, base: str, target: TargetFile) -> bytes:
    """The bytes of ``target`` from its consistent-snapshot path, checked as they were signed."""
    directory, _, name = target.path.rpartition("/")
    sha256 = target.hashes.get("sha256")
    if sha256 is None:
        raise ValueError(f"{target.path} has no SHA-256")
    url = f"{base}targets/{directory}/{sha256}.{name}"
    data = fetcher.download_bytes(url, target.length)
    if len(data) != target.length:
        raise AgentError(
            f"{url} is {len(data)} bytes, {target.length} were signed", code="size-mismatch"
        )
    if hashlib.sha256(data).hexdigest() != sha256:
        raise AgentError(f"{url} has another SHA-256 than was signed", code="digest-mismatch")
    return data


def _release(channel: str, target: TargetFile, data: bytes) -> TrustedRelease:
    """Put manifest and signed fields together; raises AgentError where they disagree."""
    manifest = Manifest.parse(data, origin=target.path)
    custom = target.custom
    expected = {
        "channel": channel,
        "version": manifest.version,
        "architecture": manifest.architecture,
    }
    if not isinstance(custom, dict):
        raise AgentError(f"{target.path} carries no release fields", code="bad-metadata")
    for field, value in expected.items():
        if custom.get(field) != value:
            raise AgentError(
                f"{target.path} is signed with {field} {custom.get(field)!r}, and its manifest or "
                f"path says {value!r}",
                code="bad-metadata",
                hint="the publisher must publish this release anew",
            )
    return TrustedRelease(
        manifest,
        data,
        hashlib.sha256(data).hexdigest(),
        manifest.version,
        channel,
        manifest.architecture,
        _optional_text(custom, "min_compatible_version"),
        _optional_text(custom, "release_date"),
        _optional_text(custom, "notes") or "",
    )


def _optional_text(custom: dict[str, object], field: str) -> str | None:
    value = custom.get(field)
    if value is not None and not isinstance(value, str):
        raise AgentError(f"the signed field {field} is {value!r}, not text", code="bad-metadata")
    return value
