"""A signed release repository: create it, publish into it, keep it fresh, rotate its keys.

Everything is a function of the keys, the clock and the input files: the same three give the same
bytes. A change writes new files beside the old ones and replaces ``timestamp.json`` (or adds the
next root) last, so a publisher that is cut off leaves the former state served.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple, TypeVar

from securesystemslib.signer._signer import Signer

# tuf.api.metadata names these too, but does not declare it, and mypy --strict wants it declared.
from tuf.api._payload import MetaFile, Role, Root, Snapshot, T, Targets, Timestamp
from tuf.api.metadata import Metadata

from product.release.due import WARN_BEFORE, Lacking, Refreshed, is_due
from product.release.errors import MarksUnwritableError, RepositoryError
from product.release.keys import ROLES, KeyDirectory
from product.release.marks import Marks
from product.release.slotfiles import read_slot
from product.release.state import State, check_signatures, read_state
from product.release.storage import exclusive, place_file, write_file
from product.release.targets import (
    WITHDRAWN_FIELD,
    About,
    PublishedRelease,
    make_target,
    require_successor,
    stamp,
    withdrawn_digests,
)
from product.terms import TIME_FORMAT, Terms

# A field of our own in timestamp.json (TUF lets clients ignore it): when it was signed. A node
# whose clock is behind it knows that its clock is wrong.
ISSUED_FIELD = "x-kubesolo-issued"
# A clock so far from the last signing is wrong, or somebody says that it is not.
_CLOCK_BEHIND = timedelta(hours=1)
_CLOCK_AHEAD = timedelta(days=31)

Clock = Callable[[], datetime]
Edited = TypeVar("Edited")


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


def utc_now() -> datetime:
    """The host's clock."""
    return datetime.now(UTC)


class Repository:
    """One repository directory, opened for changing with the keys at hand."""

    def __init__(
        self,
        directory: Path,
        keys: KeyDirectory,
        *,
        expiry: Expiry | None = None,
        clock: Clock = utc_now,
        marks: Marks | None = None,
        clock_is_right: bool = False,
    ) -> None:
        """``marks`` remembers what was signed (product.release.marks); ``clock_is_right`` signs
        also where the clock is far from the last signing. ``notes`` collects what a person
        should know of a change."""
        self.directory = directory
        self.metadata = directory / "metadata"
        self.notes: list[str] = []
        self._keys = keys
        self._expiry = expiry or Expiry()
        self._clock = clock
        self._marks = marks
        self._clock_is_right = clock_is_right

    @classmethod
    def create(
        cls,
        directory: Path,
        keys: KeyDirectory,
        *,
        expiry: Expiry | None = None,
        thresholds: Mapping[str, int] | None = None,
        clock: Clock = utc_now,
        marks: Marks | None = None,
        clock_is_right: bool = False,
    ) -> Repository:
        """Start an empty repository whose roles trust all keys of ``keys``.

        ``thresholds[role]`` is how many of a role's keys must sign (one where not named). Raises
        RepositoryError where the directory already is a repository or keys are too few.
        """
        repository = cls(
            directory,
            keys,
            expiry=expiry,
            clock=clock,
            marks=marks,
            clock_is_right=clock_is_right,
        )
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
        marks: Marks | None = None,
        clock_is_right: bool = False,
    ) -> Repository:
        """Open an existing repository; raises RepositoryError where there is none or it is damaged.

        Metadata whose signatures do not hold is never signed anew.
        """
        repository = cls(
            directory,
            keys,
            expiry=expiry,
            clock=clock,
            marks=marks,
            clock_is_right=clock_is_right,
        )
        repository.read()
        return repository

    def publish(
        self,
        slot_dir: Path,
        *,
        channel: str,
        notes: str = "",
        min_compatible_version: str | None = None,
        terms: Terms | None = None,
        overrides: Overrides | None = None,
        allow_drift: bool = False,
    ) -> PublishedRelease:
        """Make the slot files in ``slot_dir`` the release of ``channel`` for their architecture.

        Raises SlotFilesError where a file is not what the slot's manifest says, and where it says
        that packages drifted from the locked ones, unless ``allow_drift``; RepositoryError
        for a malformed channel or version, for a release that nodes would not take in the place of
        the one that is served, and where the keys at hand do not suffice.
        """
        chosen = overrides or Overrides()
        manifest = read_slot(slot_dir, allow_drift=allow_drift)
        architecture = chosen.architecture_path or manifest.architecture
        about = About(notes, min_compatible_version, terms or Terms())
        released = chosen.release_date or self._clock()
        target = make_target(manifest, channel, architecture, about, released)

        def serve(targets: Targets) -> str | None:
            replaced = targets.targets.get(target.path)
            require_successor(replaced, target)
            for artifact in manifest.artifacts:
                destination = self.directory / "artifacts" / artifact.sha256
                place_file(slot_dir / artifact.name, destination, artifact.sha256)
            for path in target.get_prefixed_paths():
                write_file(self.directory / "targets" / path, manifest.to_bytes())
            targets.targets[target.path] = target
            if withdrawn := withdrawn_digests(targets):
                left = [digest for digest in withdrawn if digest != target.hashes["sha256"]]
                targets.unrecognized_fields[WITHDRAWN_FIELD] = left
            return replaced.custom["version"] if replaced else None

        replaces = self.edit(serve, chosen.expires)
        return PublishedRelease(target.path, manifest, target.hashes["sha256"], replaces)

    def edit(self, change: Callable[[Targets], Edited], expires: datetime | None = None) -> Edited:
        """Let ``change`` work on the signed releases, then sign and serve them."""
        with exclusive(self.directory):
            current = self.read()
            self.check_clock(current)
            result = change(current.targets)
            self._write(current, ("targets", "snapshot", "timestamp"), expires)
        return result

    def refresh(
        self, *, roles: Sequence[str] | None = None, expires: datetime | None = None
    ) -> Refreshed:
        """Sign ``roles``, and what refers to them, anew with later expiry and the same content.

        Without ``roles``: snapshot and timestamp, and of root and targets what nears its end. What
        lacks its keys for that is said in the result; the others are renewed all the same.
        """
        unknown = sorted(set(roles or ()) - set(ROLES))
        if unknown or (roles is not None and not roles):
            raise RepositoryError(f"cannot refresh {unknown}: the roles are {', '.join(ROLES)}")
        with exclusive(self.directory):
            current = self.read()
            self.check_clock(current)
            lacking: tuple[Lacking, ...] = ()
            if roles is None:
                roles, lacking = self._due(current)
            if "root" in roles:
                root = copy.deepcopy(current.root)
                root.expires = expires or self.end_of("root")
                self.write_next_root(root, self._signers("root", root), current.root)
            self._write(current, _with_dependents(roles), expires)
        return Refreshed(tuple(role for role in ROLES if role in roles), lacking)

    def _due(self, current: State) -> tuple[list[str], tuple[Lacking, ...]]:
        now = self._clock().astimezone(UTC)
        roles, lacking = ["snapshot", "timestamp"], []
        for signed in (current.root, current.targets):
            role, trusted = signed.type, current.root.roles[signed.type]
            if not is_due(role, signed.expires, now):
                continue
            if len(self._usable(role, current.root)) >= trusted.threshold:
                roles.append(role)
            else:
                urgent = signed.expires - now < WARN_BEFORE[role]
                keyids = tuple(trusted.keyids)
                lacking.append(Lacking(role, signed.expires, keyids, trusted.threshold, urgent))
        return roles, tuple(lacking)

    def rotate(self, role: str) -> list[str]:
        """Replace the role's keys by as many new ones, with the same threshold; returns their ids.

        The role's metadata is first signed by old and new keys, then the next root names the new
        ones, so that at no moment a client finds metadata it cannot verify. The old keys move to
        ``retired/`` in the key directory. An interrupted rotation is finished by another call.
        """
        if role not in ROLES:
            raise RepositoryError(f"there is no role {role!r}: the roles are {', '.join(ROLES)}")
        with exclusive(self.directory):
            current = self.read()
            self.check_clock(current)
            trusted = current.root.roles[role]
            pending = {key.public_key.keyid for key in self._keys.successors(role)}
            if not pending or not pending <= set(trusted.keyids):
                trusted = self._replace_keys(role, current)
            self._keys.promote_successors(role, set(trusted.keyids))
        return list(trusted.keyids)

    def sign_for(self, current: State, root: Root, roles: Sequence[str]) -> None:
        """Sign ``roles`` so that clients of the present root and of ``root`` believe them."""
        self.check_clock(current)
        extra = {role: self._usable(role, root) for role in roles}
        for role in roles:
            known = {key.public_key.keyid for key in self._usable(role, current.root)}
            extra[role] = [key for key in extra[role] if key.public_key.keyid not in known]
            wanted = root.roles[role]
            if len(self._usable(role, root)) < wanted.threshold:
                raise RepositoryError(
                    f"{self._keys.path} holds {len(self._usable(role, root))} of the keys that the "
                    f"next root trusts for {role}, and {wanted.threshold} must sign",
                    hint="put the new keys beside the old ones until the root is merged",
                )
        self._write(current, _with_dependents(roles), None, extra)

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
        root.expires = self.end_of("root")
        self.write_next_root(root, root_signers, current.root)
        return root.roles[role]

    def _initialise(self, thresholds: dict[str, int]) -> None:
        root = Root(version=1, expires=self.end_of("root"), consistent_snapshot=True)
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
        self._remember(dict.fromkeys(ROLES, 1))

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
        if roles:
            self._advance(current, roles)
        if "targets" in roles:
            targets = current.targets
            targets.expires = expires or self.end_of("targets")
            data = _sign(Metadata(targets), signers["targets"], root)
            current.snapshot.meta["targets.json"] = _meta_file(targets.version, data)
            write_file(self.metadata / f"{targets.version}.targets.json", data)
        if "snapshot" in roles:
            snapshot = current.snapshot
            snapshot.expires = expires or self.end_of("snapshot")
            data = _sign(Metadata(snapshot), signers["snapshot"], root)
            current.timestamp.snapshot_meta = _meta_file(snapshot.version, data)
            write_file(self.metadata / f"{snapshot.version}.snapshot.json", data)
        if "timestamp" in roles:
            timestamp = current.timestamp
            timestamp.expires = expires or self.end_of("timestamp")
            timestamp.unrecognized_fields[ISSUED_FIELD] = stamp(self._clock())
            data = _sign(Metadata(timestamp), signers["timestamp"], root)
            write_file(self.metadata / "timestamp.json", data)

    def _advance(self, current: State, roles: Sequence[str]) -> None:
        """Give ``roles`` their next versions, above all that was ever signed for the repository."""
        marks = self._marked()
        for role in roles:
            signed: Targets | Snapshot | Timestamp = getattr(current, role)
            highest = marks.get(role, 0)
            if highest > signed.version:
                self.notes.append(
                    f"{role} is at version {signed.version} here, and version {highest} was signed "
                    f"already: it continues with {highest + 1} (restored from a backup?)"
                )
            signed.version = max(signed.version, highest) + 1
        signed_now = {role: getattr(current, role).version for role in roles}
        self._remember({"root": current.root.version, **signed_now})

    def write_next_root(self, root: Root, signers: Sequence[Signer], former: Root) -> None:
        """Sign ``root`` as the version after ``former`` and serve it."""
        root.version += 1
        self.serve_root(Metadata(root), signers, former)

    def serve_root(self, metadata: Metadata[Root], signers: Sequence[Signer], former: Root) -> None:
        """Add the signatures of ``signers`` and serve the root, if clients of ``former`` follow."""
        root = metadata.signed
        data = _sign(metadata, signers, root)
        # Clients follow a new root only where the former root's keys signed it too.
        check_signatures(former, metadata, "root")
        self._remember({"root": root.version})
        write_file(self.metadata / f"{root.version}.root.json", data)

    def _identity(self) -> str:
        """What marks call this repository."""
        return hashlib.sha256((self.metadata / "1.root.json").read_bytes()).hexdigest()

    def _marked(self) -> dict[str, int]:
        if self._marks is None or not (self.metadata / "1.root.json").exists():
            return {}
        return self._marks.of(self._identity())

    def _remember(self, versions: Mapping[str, int]) -> None:
        if self._marks is None or not (self.metadata / "1.root.json").exists():
            return
        try:
            self._marks.raise_to(self._identity(), versions)
        except MarksUnwritableError as error:
            # Keys may lie where nothing can be written; to publish is more than to remember.
            note = (
                f"{error.message}: should this repository be restored from a backup, nodes would "
                "take it for a replay"
            )
            if note not in self.notes:
                self.notes.append(note)

    def check_clock(self, current: State) -> None:
        """Raise RepositoryError where the clock is far from the last signing."""
        issued = current.timestamp.unrecognized_fields.get(ISSUED_FIELD)
        if self._clock_is_right or not isinstance(issued, str):
            return
        now = self._clock().astimezone(UTC)
        last = datetime.strptime(issued, TIME_FORMAT).replace(tzinfo=UTC)
        if -_CLOCK_BEHIND <= now - last <= _CLOCK_AHEAD:
            return
        where = f"{abs(now - last).days} days {'after' if now > last else 'before'}"
        raise RepositoryError(
            f"this host's clock says {now:%Y-%m-%d %H:%M} UTC, {where} {self.directory} was signed "
            f"last ({last:%Y-%m-%d %H:%M})",
            hint="set the clock; if it is right: --clock-is-right",
        )

    def _signers(self, role: str, root: Root) -> list[Signer]:
        """The keys at hand that the repository trusts for ``role``."""
        wanted, usable = root.roles[role], self._usable(role, root)
        if len(usable) < wanted.threshold:
            raise RepositoryError(
                f"{self._keys.path} holds {len(usable)} of the keys that {self.directory} trusts "
                f"for {role}, and {wanted.threshold} must sign",
                hint="name the key directory with which this repository was made or last rotated",
            )
        return usable

    def _usable(self, role: str, root: Root) -> list[Signer]:
        held = self._keys.signers(role)
        return [key for key in held if key.public_key.keyid in root.roles[role].keyids]

    def read(self) -> State:
        """What is served. Raises RepositoryError where it does not hold together."""
        state = read_state(self.directory)
        if (highest := self._marked().get("root", 0)) > state.root.version:
            raise RepositoryError(
                f"{self.directory} ends with root version {state.root.version}, and version "
                f"{highest} was signed already: nodes that know it trust no other",
                hint=f"put metadata/{highest}.root.json and those before it back: a mirror has "
                "them, and a node has the last one as /var/lib/kubesolo/update/metadata/root.json",
            )
        return state

    def now(self) -> datetime:
        """What the host's clock says, in UTC."""
        return self._clock().astimezone(UTC)

    def end_of(self, role: str) -> datetime:
        """When metadata of ``role`` ends that is signed now."""
        duration: timedelta = getattr(self._expiry, role)
        return self._clock().astimezone(UTC) + duration

    def _metadata_directory(self) -> None:
        try:
            self.metadata.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RepositoryError(
                f"cannot make the repository {self.directory}: {error.strerror}"
            ) from None


def _with_dependents(roles: Sequence[str]) -> tuple[str, ...]:
    """``roles`` but root, and every role whose metadata names a version of them."""
    order = ("targets", "snapshot", "timestamp")
    first = min((order.index(role) for role in roles if role != "root"), default=len(order))
    return order[first:]


def _meta_file(version: int, data: bytes) -> MetaFile:
    return MetaFile.from_data(version, data, ["sha256"])


def _sign(metadata: Metadata[T], signers: Sequence[Signer], root: Root) -> bytes:
    """Sign with every signer and check the result as a client of ``root`` would."""
    for signer in signers:
        metadata.sign(signer, append=True)
    check_signatures(root, metadata, metadata.signed.type)
    return metadata.to_bytes()
