"""A signed release repository: create it, publish into it, keep it fresh, rotate its keys.

Everything is a function of the keys, the clock and the input files: the same three give the same
bytes. A change writes new files beside the old ones and replaces ``timestamp.json`` (or adds the
next root) last, so a publisher that is cut off leaves the former state served.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, TypeVar

# tuf.api.metadata names these too, but does not declare it, and mypy --strict wants it declared.
from tuf.api._payload import Role, Root, Snapshot, Targets, Timestamp
from tuf.api.metadata import Metadata

from product.release.deltas import DeltaOptions, offer_deltas
from product.release.due import WARN_BEFORE, Lacking, Refreshed, is_due
from product.release.errors import RepositoryError
from product.release.keys import ROLES, KeyDirectory
from product.release.marks import Marks
from product.release.signing import (
    Clock,
    Expiry,
    SignedMetadata,
    sign,
    utc_now,
    with_dependents,
)
from product.release.slotfiles import read_slot
from product.release.state import State
from product.release.storage import exclusive, place_file, write_file
from product.release.targets import (
    About,
    PublishedRelease,
    make_target,
    put,
    require_successor,
)
from product.terms import Terms

__all__ = ["Expiry", "Overrides", "Repository", "utc_now"]

Edited = TypeVar("Edited")


class Overrides(NamedTuple):
    """What the publisher states instead of what the clock and the manifest say.

    ``expires`` is the end of validity of the metadata that this publish signs,
    ``architecture_path`` the architecture in the target path.
    """

    expires: datetime | None = None
    architecture_path: str | None = None
    release_date: datetime | None = None


class Repository(SignedMetadata):
    """One repository directory, opened for changing with the keys at hand."""

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
        deltas: DeltaOptions | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> PublishedRelease:
        """Make the slot files in ``slot_dir`` the release of ``channel`` for their architecture.

        With ``deltas``, nodes that run what was served before fetch only what changed; ``say`` is
        told of each.

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
            if deltas is not None:
                offer_deltas(self.directory, targets, target, manifest, deltas, say)
            for path in target.get_prefixed_paths():
                write_file(self.directory / "targets" / path, manifest.to_bytes())
            put(targets, target)
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
            self._write(current, with_dependents(roles), expires)
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

    def _replace_keys(self, role: str, current: State) -> Role:
        """Serve a root that trusts the role's successors instead of its present keys."""
        root = copy.deepcopy(current.root)
        root_signers = self._signers("root", root)
        former = list(root.roles[role].keyids)
        successors = self._keys.prepare_successors(role, len(former))
        if role == "root":
            root_signers.extend(successors)
        else:
            self._write(current, with_dependents((role,)), None, {role: list(successors)})
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
        data = sign(Metadata(root), self._keys.signers("root"), root)
        write_file(self.metadata / "1.root.json", data)
        self._remember(dict.fromkeys(ROLES, 1))

    def _metadata_directory(self) -> None:
        try:
            self.metadata.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RepositoryError(
                f"cannot make the repository {self.directory}: {error.strerror}"
            ) from None
