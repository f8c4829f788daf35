"""Which release to trust: the TUF client of the node.

``metadata_dir`` keeps what has been proved: ``anchor.json`` (the first root, which a pinned key
signed), ``root.json``, ``timestamp.json``, ``snapshot.json`` and ``targets.json``. Nothing there
needs protection from loss: what is missing or damaged is fetched and verified again.

Codes of the errors: ``no-server``, ``no-pubkey``, ``no-release``, ``delegated``,
``server-unreachable``, ``bad-redirect``, ``captive-portal``, ``server-refused``,
``login-required``, ``login-refused``, ``access-denied``, those of net/proxy.py and net/tls.py,
``untrusted-signature``, ``expired``, ``metadata-stale``, ``metadata-rollback``, ``size-mismatch``,
``digest-mismatch``, ``bad-metadata``.

tuf and what it needs are imported inside functions: on the node they cost more than most commands
take.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from product.agent.errors import AgentError
from product.agent.sources.protocol import DEFAULT_POLICY, FetchPolicy, place, wait_before
from product.agent.system.files import make_directories, write_atomic
from product.agent.trust import standins
from product.agent.trust.fetcher import Download, as_fetcher
from product.agent.trust.floor import TIME_FORMAT, known_moments, refuse_expired, signing_moments
from product.agent.trust.pin import MAX_ROOTS, METADATA, ensure_anchor, read_pinned_keys
from product.deltas import Delta, DeltasError, parse_deltas
from product.manifest import MANIFEST_NAME, Manifest, ManifestError
from product.terms import Terms, TermsError

if TYPE_CHECKING:
    from tuf.api._payload import TargetFile
    from tuf.ngclient.fetcher import FetcherInterface
    from tuf.ngclient.updater import Updater

    from product.agent.config import Config
    from product.agent.sources.protocol import Source

RELEASE_FILE = "/usr/lib/kubesolo/release.json"

# How long after the newest timestamp was signed an older one may be a cache's, and no attack.
_CACHES = timedelta(days=1)
_ROLES = ("root", "timestamp", "snapshot", "targets")


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
    terms: Terms = Terms()
    deltas: tuple[Delta, ...] = ()


def find_release(
    source: Source,
    config: Config,
    *,
    architecture: str,
    metadata_dir: str,
    now: datetime | None = None,
    release_file: str = RELEASE_FILE,
    known_time: str | None = None,
    policy: FetchPolicy = DEFAULT_POLICY,
) -> TrustedRelease:
    """The release that ``source`` has for the channel of ``config`` and ``architecture``.

    ``now`` is the node's clock where it is not the system's; ``release_file`` gives the build
    date of the running image, before which no clock is believed, and ``known_time`` what time the
    node last knew. Raises AgentError.
    """
    pinned = read_pinned_keys(config.pubkey)
    clock = now or datetime.now(UTC)
    base = f"{source.address}/"
    standins.install()
    with _named_errors(base, source.setting, clock):
        download = Download(source, policy)
        fetcher = as_fetcher(download)
        make_directories(metadata_dir)
        ensure_anchor(metadata_dir, fetcher, source.address, pinned)
        reference = max([clock, *known_moments(release_file, known_time)])
        updater = _refreshed(metadata_dir, download, reference, policy)
        # What the timestamp of before proved is not asked: this one is as new, or newer.
        refuse_expired(metadata_dir, max([reference, *signing_moments(metadata_dir)]))
        path = f"{config.channel}/{architecture}/{MANIFEST_NAME}"
        target = updater.get_targetinfo(path)
        if target is None:
            raise _no_release(base, config.channel, architecture, updater)
        data = _fetch_target(source, fetcher, target)
        return _release(config.channel, target, data)


def _refreshed(store: str, download: Download, reference: datetime, policy: FetchPolicy) -> Updater:
    """An updater with the server's newest metadata; older than that of ``store`` is asked for
    again, because a cache in between may be a moment behind."""
    from tuf.api.exceptions import BadVersionNumberError

    tries = 0
    while True:
        tries += 1
        updater = _new_updater(store, as_fetcher(download), reference)
        try:
            updater.refresh()
            return updater
        except BadVersionNumberError as error:
            if tries >= policy.tries:
                if _may_be_a_cache(store, reference):
                    raise AgentError(
                        f"{download.source.address}/ serves older metadata than this node has "
                        f"seen, as a cache does "
                        f"for a while: {error}",
                        code="metadata-stale",
                        hint="try again later; if it lasts for a day, look at what is between",
                    ) from None
                raise
        download.fresh = True
        download.pause(wait_before(policy, tries, None))


def _may_be_a_cache(store: str, reference: datetime) -> bool:
    """Whether the newest timestamp that was seen is so young that a cache may not have it."""
    signed = signing_moments(store)
    return bool(signed) and reference - max(signed) < _CACHES


def _no_release(base: str, channel: str, architecture: str, updater: Updater) -> AgentError:
    delegations = updater._trusted_set.targets.delegations
    if delegations is not None and delegations.roles:
        names = ", ".join(repr(name[:64]) for name in list(delegations.roles)[:5])
        return AgentError(
            f"{base} delegates the release of the channel {channel!r} to {names}, and nodes follow "
            "no delegation",
            code="delegated",
            hint="the publisher must use kubesolo-release, which delegates nothing",
        )
    return AgentError(
        f"{base} has no release of the channel {channel!r} for {architecture}",
        code="no-release",
        hint="check channel= in update.conf",
    )


def _new_updater(store: str, fetcher: FetcherInterface, reference: datetime) -> Updater:
    from tuf.api.exceptions import RepositoryError
    from tuf.ngclient.config import UpdaterConfig
    from tuf.ngclient.updater import Updater

    class NodeUpdater(Updater):
        """tuf's client with a given time, which keeps metadata across a power cut.

        Both are private to tuf 5.1, which the guest's package and the project's pin fix; the
        tests of this module fail where another version no longer takes them.
        """

        def _persist_metadata(self, rolename: str, data: bytes) -> None:
            # The name of a delegated role is the server's, and may be a path.
            if rolename not in _ROLES:
                raise RepositoryError(f"nobody follows the delegation to {rolename!r}")
            write_atomic(f"{store}/{rolename}.json", data, mode=0o644)

    rules = UpdaterConfig(max_root_rotations=MAX_ROOTS, max_delegations=0)
    updater = NodeUpdater(store, METADATA, fetcher=fetcher, config=rules)
    updater._trusted_set.reference_time = reference
    return updater


@contextlib.contextmanager
def _named_errors(base: str, setting: str, clock: datetime) -> Iterator[None]:
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
    except tuf.DownloadHTTPError as error:
        denied = error.status_code == 403
        raise AgentError(
            str(error),
            code="access-denied" if denied else "server-unreachable",
            hint=f"check {setting}= in update.conf: it must name what holds metadata/"
            + (", and this node's login may have to read it" if denied else ""),
        ) from None
    except tuf.DownloadError as error:
        raise AgentError(
            str(error),
            code="server-unreachable",
            hint=f"check {setting}= in update.conf: it must name what holds metadata/",
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


def _fetch_target(source: Source, fetcher: FetcherInterface, target: TargetFile) -> bytes:
    """The bytes of ``target`` from its consistent-snapshot path, checked as they were signed."""
    directory, _, name = target.path.rpartition("/")
    sha256 = target.hashes.get("sha256")
    if sha256 is None:
        raise ValueError(f"{target.path} has no SHA-256")
    path = f"targets/{directory}/{sha256}.{name}"
    data, url = fetcher.download_bytes(path, target.length), place(source, path)
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
        _terms(custom),
        _deltas(custom),
    )


def _terms(custom: dict[str, object]) -> Terms:
    try:
        return Terms.parse(custom)
    except TermsError as error:
        raise AgentError(error.message, code="bad-metadata") from None


def _deltas(custom: dict[str, object]) -> tuple[Delta, ...]:
    try:
        return parse_deltas(custom)
    except DeltasError as error:
        raise AgentError(error.message, code="bad-metadata") from None


def _optional_text(custom: dict[str, object], field: str) -> str | None:
    value = custom.get(field)
    if value is not None and not isinstance(value, str):
        raise AgentError(f"the signed field {field} is {value!r}, not text", code="bad-metadata")
    return value
