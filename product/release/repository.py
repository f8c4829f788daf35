"""A signed release repository: create it, publish into it, keep it fresh, rotate its keys.

Everything is a function of the keys, the clock and the input files: the same three give the same
bytes. A change writes new files beside the old ones and replaces ``timestamp.json`` (or adds the
next root) last, so a publisher that is cut off leaves the former state served.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from securesystemslib.signer._signer import Signer

# tuf.api.metadata names these too, but does not declare it, and mypy --strict wants it declared.
from tuf.api._payload import (
    MetaFile,
    Role,
    Root,
    Snapshot,
    T,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.metadata import Metadata

from product.manifest import MANIFEST_NAME, Manifest, ManifestError
from product.release.errors import RepositoryError, SlotFilesError
from product.release.keys import ROLES, KeyDirectory
from product.release.state import State, check_signatures, read_state
from product.release.storage import exclusive, place_file, sha256_file, write_file

# A field of our own in timestamp.json (TUF lets clients ignore it): when it was signed. A node
# whose clock is behind it knows that its clock is wrong.
ISSUED_FIELD = "x-kubesolo-issued"
TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"

_CHANNEL = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_VERSION = re.compile(r"v?\d+\.\d+\.\d+(?:[-+][0-9A-Za-z.+-]+)?")

Clock = Callable[[], datetime]


class Expiry(NamedTuple):
    """How long each role's metadata is valid after signing.

    The timestamp's limits how long a node can be held back on old metadata; ``refresh`` must run
    more often than that.
    """

    root: timedelta = timedelta(days=730)
    targets: timedelta = timedelta(days=365)
    snapshot: timedelta = timedelta(days=30)
    timestamp: timedelta = timedelta(days=30)


class Overrides(NamedTuple):
    """What the publisher states instead of what the clock and the manifest say.

    ``expires`` is the end of validity of the metadata that this publish signs,
    ``architecture_path`` the architecture in the target path.
    """

    expires: datetime | None = None
    architecture_path: str | None = None
    release_date: datetime | None = None


class PublishedRelease(NamedTuple):
    """What a publish put where; ``replaces`` is the version served there before."""

    target_path: str
    manifest: Manifest
    digest: str
    replaces: str | None


def utc_now() -> datetime:
    """The host's clock."""
    return datetime.now(UTC)


class Repository:
    """One repository directory, opened for changing with the keys at hand."""

    def __init__(self, directory: Path, keys: KeyDirectory, *, expiry: Expiry, clock: Clock):
        self.directory = directory
        self.metadata = directory / "metadata"
        self._keys = keys
        self._expiry = expiry
        self._clock = clock

    @classmethod
    def create(
        cls,
        directory: Path,
        keys: KeyDirectory,
        *,
        expiry: Expiry | None = None,
        thresholds: Mapping[str, int] | None = None,
        clock: Clock = utc_now,
    ) -> Repository:
        """Start an empty repository whose roles trust all keys of ``keys``.

        ``thresholds[role]`` is how many of a role's keys must sign (one where not named). Raises
        RepositoryError where the directory already is a repository or keys are too few.
        """
        repository = cls(directory, keys, expiry=expiry or Expiry(), clock=clock)
        repository._metadata_directory()
        with exclusive(directory):
            if (repository.metadata / "1.root.json").exists():
                raise RepositoryError(
                    f"{directory} already holds a repository",
                    hint="publish into it, or choose an empty directory",
                )
            repository._initialise(dict(thresholds or {}))
        return repository

    @classmethod
    def open(
        cls,
        directory: Path,
        keys: KeyDirectory,
        *,
        expiry: Expiry | None = None,
        clock: Clock = utc_now,
    ) -> Repository:
        """Open an existing repository; raises RepositoryError where there is none or it is damaged.

        Metadata whose signatures do not hold is never signed anew.
        """
        repository = cls(directory, keys, expiry=expiry or Expiry(), clock=clock)
        repository._current()
        return repository

    def publish(
        self,
        slot_dir: Path,
        *,
        channel: str,
        notes: str = "",
        min_compatible_version: str | None = None,
        overrides: Overrides | None = None,
        allow_drift: bool = False,
    ) -> PublishedRelease:
        """Make the slot files in ``slot_dir`` the release of ``channel`` for their architecture.

        Raises SlotFilesError where a file is not what the slot's manifest says, and where it says
        that packages drifted from the locked ones, unless ``allow_drift``; RepositoryError
        for a malformed channel or version and where the keys at hand do not suffice.
        """
        chosen = overrides or Overrides()
        _check("channel", channel, _CHANNEL)
        if min_compatible_version is not None:
            _check("min_compatible_version", min_compatible_version, _VERSION)
        manifest = _read_slot(slot_dir)
        if manifest.drift and not allow_drift:
            raise SlotFilesError(
                f"{slot_dir} was not built from what is locked, {len(manifest.drift)} packages "
                f"are others: {'; '.join(manifest.drift)}",
                hint="renew the locks (./noxw -s lock) and build it anew, or add --allow-drift",
            )
        _check("version", manifest.version, _VERSION)
        architecture = chosen.architecture_path or manifest.architecture
        _check("architecture path", architecture, _CHANNEL)
        data = manifest.to_bytes()
        target = TargetFile.from_data(f"{channel}/{architecture}/{MANIFEST_NAME}", data, ["sha256"])
        target.unrecognized_fields["custom"] = {
            "version": manifest.version,
            "channel": channel,
            "architecture": manifest.architecture,
            "min_compatible_version": min_compatible_version,
            "release_date": _stamp(chosen.release_date or self._clock()),
            "notes": notes,
        }
        with exclusive(self.directory):
            current = self._current()
            for artifact in manifest.artifacts:
                destination = self.directory / "artifacts" / artifact.sha256
                place_file(slot_dir / artifact.name, destination, artifact.sha256)
            for path in target.get_prefixed_paths():
                write_file(self.directory / "targets" / path, data)
            replaced = current.targets.targets.get(target.path)
            current.targets.targets[target.path] = target
            self._write(current, ("targets", "snapshot", "timestamp"), chosen.expires)
        return PublishedRelease(
            target.path,
            manifest,
            target.hashes["sha256"],
            replaced.custom["version"] if replaced else None,
        )

    def refresh(
        self,
        *,
        roles: Sequence[str] = ("snapshot", "timestamp"),
        expires: datetime | None = None,
    ) -> None:
        """Sign ``roles``, and what refers to them, anew with later expiry and the same content."""
        unknown = sorted(set(roles) - set(ROLES))
        if unknown or not roles:
            raise RepositoryError(f"cannot refresh {unknown}: the roles are {', '.join(ROLES)}")
        with exclusive(self.directory):
            current = self._current()
            if "root" in roles:
                root = copy.deepcopy(current.root)
                root.expires = expires or self._expires("root")
                self._write_next_root(root, self._signers("root", root), current.root)
            self._write(current, _with_dependents(roles), expires)

    def rotate(self, role: str) -> list[str]:
        """Replace the role's keys by as many new ones, with the same threshold; returns their ids.

        The role's metadata is first signed by old and new keys, then the next root names the new
        ones, so that at no moment a client finds metadata it cannot verify. The old keys move to
        ``retired/`` in the key directory. An interrupted rotation is finished by another call.
        """
        if role not in ROLES:
            raise RepositoryError(f"there is no role {role!r}: the roles are {', '.join(ROLES)}")
        with exclusive(self.directory):
            current = self._current()
            trusted = current.root.roles[role]
            pending = {key.public_key.keyid for key in self._keys.successors(role)}
            if not pending or not pending <= set(trusted.keyids):
                trusted = self._replace_keys(role, current)
            self._keys.promote_successors(role, set(trusted.keyids))
        return list(trusted.keyids)

    def _replace_keys(self, role: str, current: State) -> Role:
        """Serve a root that trusts the role's successors instead of its present keys."""
        root = copy.deepcopy(current.root)
        root_signers = self._signers("root", root)
        former = list(root.roles[role].keyids)
        successors = self._keys.prepare_successors(role, len(former))
        if role == "root":
            root_signers.extend(successors)
        else:
            self._write(current, _with_dependents((role,)), None, {role: list(successors)})
        for keyid in former:
            root.revoke_key(keyid, role)
        for successor in successors:
            root.add_key(successor.public_key, role)
        root.expires = self._expires("root")
        self._write_next_root(root, root_signers, current.root)
        return root.roles[role]

    def _initialise(self, thresholds: dict[str, int]) -> None:
        root = Root(version=1, expires=self._expires("root"), consistent_snapshot=True)
        for role in ROLES:
            signers = self._keys.signers(role)
            threshold = thresholds.pop(role, 1)
            if not 1 <= threshold <= len(signers):
                raise RepositoryError(
                    f"{role} has {len(signers)} keys in {self._keys.path} and cannot have a "
                    f"threshold of {threshold}",
                    hint=f"make keys first: kubesolo-release keys {self._keys.path}",
                )
            for signer in signers:
                root.add_key(signer.public_key, role)
            root.roles[role].threshold = threshold
        if thresholds:
            raise RepositoryError(f"there is no role {sorted(thresholds)[0]!r} to have a threshold")
        current = State(root, Targets(), Snapshot(), Timestamp())
        # _write signs the version after the present one, and there is none yet.
        current.targets.version = current.snapshot.version = current.timestamp.version = 0
        self._write(current, ("targets", "snapshot", "timestamp"), None)
        # Without a root there is no repository yet: last here.
        data = _sign(Metadata(root), self._keys.signers("root"), root)
        write_file(self.metadata / "1.root.json", data)

    def _write(
        self,
        current: State,
        roles: Sequence[str],
        expires: datetime | None,
        extra_signers: Mapping[str, list[Signer]] | None = None,
    ) -> None:
        """Sign the next version of each of ``roles`` and serve it, ``timestamp.json`` last."""
        extra = extra_signers or {}
        signers = {
            role: self._signers(role, current.root) + list(extra.get(role, ())) for role in roles
        }
        root = current.root
        if "targets" in roles:
            targets = current.targets
            targets.version += 1
            targets.expires = expires or self._expires("targets")
            data = _sign(Metadata(targets), signers["targets"], root)
            current.snapshot.meta["targets.json"] = _meta_file(targets.version, data)
            write_file(self.metadata / f"{targets.version}.targets.json", data)
        if "snapshot" in roles:
            snapshot = current.snapshot
            snapshot.version += 1
            snapshot.expires = expires or self._expires("snapshot")
            data = _sign(Metadata(snapshot), signers["snapshot"], root)
            current.timestamp.snapshot_meta = _meta_file(snapshot.version, data)
            write_file(self.metadata / f"{snapshot.version}.snapshot.json", data)
        if "timestamp" in roles:
            timestamp = current.timestamp
            timestamp.version += 1
            timestamp.expires = expires or self._expires("timestamp")
            timestamp.unrecognized_fields[ISSUED_FIELD] = _stamp(self._clock())
            data = _sign(Metadata(timestamp), signers["timestamp"], root)
            write_file(self.metadata / "timestamp.json", data)

    def _write_next_root(self, root: Root, signers: Sequence[Signer], former: Root) -> None:
        root.version += 1
        metadata = Metadata(root)
        data = _sign(metadata, signers, root)
        # Clients follow a new root only where the former root's keys signed it too.
        check_signatures(former, metadata, "root")
        write_file(self.metadata / f"{root.version}.root.json", data)

    def _signers(self, role: str, root: Root) -> list[Signer]:
        """The keys at hand that the repository trusts for ``role``."""
        held = self._keys.signers(role)
        wanted = root.roles[role]
        usable: list[Signer] = [key for key in held if key.public_key.keyid in wanted.keyids]
        if len(usable) < wanted.threshold:
            raise RepositoryError(
                f"{self._keys.path} holds {len(usable)} of the keys that {self.directory} trusts "
                f"for {role}, and {wanted.threshold} must sign",
                hint="name the key directory with which this repository was made or last rotated",
            )
        return usable

    def _current(self) -> State:
        return read_state(self.directory)

    def _expires(self, role: str) -> datetime:
        duration: timedelta = getattr(self._expiry, role)
        return self._clock().astimezone(UTC) + duration

    def _metadata_directory(self) -> None:
        try:
            self.metadata.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RepositoryError(
                f"cannot make the repository {self.directory}: {error.strerror}"
            ) from None


def _check(what: str, value: str, pattern: re.Pattern[str]) -> None:
    if not pattern.fullmatch(value):
        raise RepositoryError(f"{what} {value!r} is malformed: it must match {pattern.pattern}")


def _read_slot(slot_dir: Path) -> Manifest:
    """The manifest of a directory of slot files, each compared with what it says of it."""
    path = slot_dir / MANIFEST_NAME
    try:
        manifest = Manifest.parse(path.read_bytes(), origin=str(path))
        for artifact in manifest.artifacts:
            file = slot_dir / artifact.name
            size = file.stat().st_size
            if size != artifact.size:
                raise SlotFilesError(f"{file} is {size} bytes, {path} says {artifact.size}")
            digest = sha256_file(file)
            if digest != artifact.sha256:
                raise SlotFilesError(f"{file} has SHA-256 {digest}, {path} says {artifact.sha256}")
    except OSError as error:
        raise SlotFilesError(
            f"{slot_dir} is not a directory of slot files: cannot read {error.filename}: "
            f"{error.strerror}",
            hint="name the directory that the image build wrote the slot's files to",
        ) from None
    except ManifestError as error:
        raise SlotFilesError(error.message) from None
    return manifest


def _with_dependents(roles: Sequence[str]) -> tuple[str, ...]:
    """``roles`` but root, and every role whose metadata names a version of them."""
    order = ("targets", "snapshot", "timestamp")
    first = min((order.index(role) for role in roles if role != "root"), default=len(order))
    return order[first:]


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime(TIME_FORMAT)


def _meta_file(version: int, data: bytes) -> MetaFile:
    return MetaFile.from_data(version, data, ["sha256"])


def _sign(metadata: Metadata[T], signers: Sequence[Signer], root: Root) -> bytes:
    """Sign with every signer and check the result as a client of ``root`` would."""
    for signer in signers:
        metadata.sign(signer, append=True)
    check_signatures(root, metadata, metadata.signed.type)
    return metadata.to_bytes()
