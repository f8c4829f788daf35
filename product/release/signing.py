"""A repository's metadata and the keys that sign it: next versions, signatures, clock, marks.

``repository`` says what is signed and when; here is how, and what keeps a wrong clock, a lost
version or a key too few from being signed at all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from securesystemslib.signer._signer import Signer

# tuf.api.metadata names these too, but does not declare it, and mypy --strict wants it declared.
from tuf.api._payload import MetaFile, Root, Snapshot, T, Targets, Timestamp
from tuf.api.metadata import Metadata

from product.release.errors import MarksUnwritableError, RepositoryError
from product.release.keys import KeyDirectory
from product.release.marks import Marks
from product.release.state import State, check_signatures, read_state
from product.release.storage import write_file
from product.release.targets import stamp
from product.terms import TIME_FORMAT

# A field of our own in timestamp.json (TUF lets clients ignore it): when it was signed. A node
# whose clock is behind it knows that its clock is wrong.
ISSUED_FIELD = "x-kubesolo-issued"
# A clock so far from the last signing is wrong, or somebody says that it is not.
_CLOCK_BEHIND = timedelta(hours=1)
_CLOCK_AHEAD = timedelta(days=31)

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


def utc_now() -> datetime:
    """The host's clock."""
    return datetime.now(UTC)


class SignedMetadata:
    """The metadata of one repository directory, with the keys at hand."""

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
        self._write(current, with_dependents(roles), None, extra)

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
            data = sign(Metadata(targets), signers["targets"], root)
            current.snapshot.meta["targets.json"] = _meta_file(targets.version, data)
            write_file(self.metadata / f"{targets.version}.targets.json", data)
        if "snapshot" in roles:
            snapshot = current.snapshot
            snapshot.expires = expires or self.end_of("snapshot")
            data = sign(Metadata(snapshot), signers["snapshot"], root)
            current.timestamp.snapshot_meta = _meta_file(snapshot.version, data)
            write_file(self.metadata / f"{snapshot.version}.snapshot.json", data)
        if "timestamp" in roles:
            timestamp = current.timestamp
            timestamp.expires = expires or self.end_of("timestamp")
            timestamp.unrecognized_fields[ISSUED_FIELD] = stamp(self._clock())
            data = sign(Metadata(timestamp), signers["timestamp"], root)
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
        data = sign(metadata, signers, root)
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


def with_dependents(roles: Sequence[str]) -> tuple[str, ...]:
    """``roles`` but root, and every role whose metadata names a version of them."""
    order = ("targets", "snapshot", "timestamp")
    first = min((order.index(role) for role in roles if role != "root"), default=len(order))
    return order[first:]


def _meta_file(version: int, data: bytes) -> MetaFile:
    return MetaFile.from_data(version, data, ["sha256"])


def sign(metadata: Metadata[T], signers: Sequence[Signer], root: Root) -> bytes:
    """Sign with every signer and check the result as a client of ``root`` would."""
    for signer in signers:
        metadata.sign(signer, append=True)
    check_signatures(root, metadata, metadata.signed.type)
    return metadata.to_bytes()
