"""Making, checking and mending the node's certificates under ``pki``.

Every boot compares digests and dates with the index (product.node.index). Only where something
differs are the certificates themselves looked into, and only what is missing, damaged, about to
expire or wrong is made again. What cannot be made again without loss, the keys of the authorities
and of service accounts, lies there twice. Whatever is replaced because it was damaged is kept in
``pki/aside-TIME``.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

from product.agent.system.files import make_directories, read_bounded, sync_directory, write_all
from product.node import index as notes
from product.node import pki
from product.node.errors import StorageError
from product.node.index import Index
from product.node.pki import Identity

if TYPE_CHECKING:
    from product.node.issue import Clock, Pair

SECOND_COPIES = "kept"


class Outcome(NamedTuple):
    """What was done: ``made`` is for people, ``problems`` need their attention."""

    made: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def known_identity(folder: str) -> Identity | None:
    """The node's name and address as of the last time."""
    for place in (folder, f"{folder}/{SECOND_COPIES}"):
        if found := notes.read_index(place):
            return Identity(found.node, found.address)
    return None


def ensure(folder: str, identity: Identity, now: float, floor: float) -> Outcome:
    """Make ``folder`` hold a sound set of certificates for ``identity``.

    ``floor``: the image's build date. Raises StorageError.
    """
    wanted, names = pki.leaves(identity), pki.files(identity)
    found = notes.read_index(folder)
    if found and not found.complaints(folder, identity, wanted, names, now):
        return Outcome()
    from product.node.issue import Clock

    try:
        return _Mending(folder, identity, Clock(now, floor), found).run()
    except OSError as error:
        raise StorageError(
            f"cannot keep the certificates in {folder}: {error.strerror or error}",
            hint="free space on the data partition, or replace it; the node tries again by itself",
        ) from None


class _Mending:
    """One closer look; ``clean`` while there was never anything to lose."""

    def __init__(self, folder: str, identity: Identity, clock: Clock, found: Index | None) -> None:
        self._folder = folder
        self._kept = f"{folder}/{SECOND_COPIES}"
        self._identity = identity
        self._clock = clock
        self._known = dict(found.files) if found else {}
        self._clean = found is None and not self._exists(f"{pki.SERVICE_ACCOUNT}.key")
        self._new: dict[str, bytes] = {}
        self._made: list[str] = []
        self._problems: list[str] = []
        self._damaged: list[str] = []

    def run(self) -> Outcome:
        """Look into everything, then write all that is new at once, and the index last."""
        from product.node import issue

        authorities = {name: self._authority(name) for name in pki.AUTHORITIES}
        pairs = dict(authorities)
        for leaf in pki.leaves(self._identity):
            pairs[leaf.name] = self._leaf(leaf, authorities[leaf.authority])
        self._service_account()
        admin, authority = pairs[pki.ADMIN], pairs[pki.CLUSTER_AUTHORITY]
        self._derive(
            pki.ADMIN_KUBECONFIG,
            pki.kubeconfig(
                authority.certificate.decode(), admin.certificate.decode(), admin.key.decode(),
                data=True,
            ),
        )  # fmt: skip
        renew = {}
        for name, pair in pairs.items():
            renewal = pki.AUTHORITY_RENEWAL if name in pki.AUTHORITIES else pki.LEAF_RENEWAL
            renew[name] = issue.end_of(pair.certificate) - renewal
        self._store(max(issue.start_of(pair.certificate) for pair in pairs.values()), renew)
        if self._clean:
            return Outcome((f"certificates for {self._identity.node}",))
        return Outcome(tuple(self._made), tuple(self._problems))

    def _authority(self, name: str) -> Pair:
        from product.node import issue

        key = self._sound_key(name)
        pair = issue.Pair(self._read(f"{name}.crt") or b"", key or b"")
        common_name, lifetime = pki.AUTHORITIES[name], pki.AUTHORITY_LIFETIME
        if key is None:
            pair = issue.make_authority(common_name, issue.make_key(), self._clock, lifetime)
            self._put(f"{name}.key", pair.key)
            self._put(f"{name}.crt", pair.certificate)
            self._complain(
                f"the key of the certificate authority {name} was damaged or missing: a new "
                "authority was made, and every certificate under it"
            )
            return pair
        complaint = issue.judge_authority(pair, common_name, self._clock, pki.AUTHORITY_RENEWAL)
        if complaint is None:
            return pair
        # The same key: what it signed before stays valid.
        pair = issue.make_authority(common_name, key, self._clock, lifetime)
        self._replace(f"{name}.crt", pair.certificate, complaint)
        return pair

    def _leaf(self, leaf: pki.Leaf, authority: Pair) -> Pair:
        from product.node import issue

        pair = issue.Pair(
            self._read(f"{leaf.name}.crt") or b"", self._read(f"{leaf.name}.key") or b""
        )
        complaint = issue.judge_leaf(pair, leaf, authority, self._clock, pki.LEAF_RENEWAL)
        if complaint is None:
            return pair
        pair = issue.make_leaf(leaf, authority, self._clock, pki.LEAF_LIFETIME)
        self._replace(f"{leaf.name}.crt", pair.certificate, complaint)
        self._put(f"{leaf.name}.key", pair.key)
        return pair

    def _service_account(self) -> None:
        from product.node import issue

        name = pki.SERVICE_ACCOUNT
        key = self._sound_key(name)
        if key is None:
            key = issue.make_key()
            self._put(f"{name}.key", key)
            self._complain(
                "the key of service accounts was damaged or missing: a new one was made; tokens "
                "that pods hold are void until their secrets are deleted and made again"
            )
        self._derive(f"{name}.pub", issue.public_key(key))

    def _sound_key(self, name: str) -> bytes | None:
        """The key called ``name``, restored from its second copy where the first is damaged.

        One whose digest the index knows comes first: a flipped bit can leave a key a key.
        """
        from product.node import issue

        file = f"{name}.key"
        first, second = self._read(file), self._read_kept(file)
        candidates = [data for data in (first, second) if data and issue.is_key(data)]
        known = [data for data in candidates if _digest(data) == self._known.get(file)]
        key = next(iter(known or candidates), None)
        if key is not None and key != first:
            self._put(file, key)
            self._complain(f"{self._folder}/{file} was damaged or missing; its copy was put back")
        return key

    def _replace(self, name: str, data: bytes, complaint: str) -> None:
        present = self._exists(name)
        self._put(name, data)
        expected = present or name in self._known
        if complaint in ("damaged", "of another key") and expected and not self._clean:
            what = "was damaged" if present else "was missing"
            self._complain(f"{self._folder}/{name} {what}; it was made again")
        else:
            reason = complaint if present else "new"
            self._made.append(f"{name.removesuffix('.crt')} ({reason})")

    def _derive(self, name: str, data: bytes) -> None:
        if self._read(name) != data:
            self._new[name] = data

    def _put(self, name: str, data: bytes) -> None:
        self._new[name] = data
        self._damaged.append(name)

    def _complain(self, text: str) -> None:
        if not self._clean:
            self._problems.append(text)

    def _store(self, valid_from: float, renew: dict[str, float]) -> None:
        make_directories(self._kept)
        for folder in (self._folder, self._kept):
            os.chmod(folder, 0o700)
        if self._problems:
            self._set_aside()
        _write_together(self._folder, self._new)
        copies = {}
        for name in (f"{name}.key" for name in pki.IRREPLACEABLE):
            data = self._new.get(name) or self._read(name)
            if data is not None and data != self._read_kept(name):
                copies[name] = data
        digests = {}
        for name in pki.files(self._identity):
            # Read back: what the index vouches for is what the disk gave.
            digests[name] = notes.digest_of(f"{self._folder}/{name}") or ""
        written = Index(
            self._identity.node, self._identity.address, digests, valid_from, renew,
            {leaf.name: leaf.digest for leaf in pki.leaves(self._identity)},
        ).to_bytes()  # fmt: skip
        copies[notes.NAME] = written
        _write_together(self._kept, copies)
        _write_together(self._folder, {notes.NAME: written})

    def _set_aside(self) -> None:
        """Keep the files that are about to be replaced; those that differ from their copy too."""
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self._clock.now))
        old = {}
        for place, prefix in ((self._folder, ""), (self._kept, f"{SECOND_COPIES}-")):
            for name in self._damaged:
                data = _read(f"{place}/{name}")
                if data is not None and data != self._new.get(name):
                    old[prefix + name] = data
        if not old:
            return
        place = f"{self._folder}/aside-{stamp}"
        make_directories(place)
        os.chmod(place, 0o700)
        _write_together(place, old)
        self._problems.append(f"what was replaced is kept in {place}")

    def _exists(self, name: str) -> bool:
        return os.path.exists(f"{self._folder}/{name}") or os.path.exists(f"{self._kept}/{name}")

    def _read(self, name: str) -> bytes | None:
        return _read(f"{self._folder}/{name}")

    def _read_kept(self, name: str) -> bytes | None:
        return _read(f"{self._kept}/{name}")


def _read(path: str) -> bytes | None:
    try:
        return read_bounded(path, notes.MAX_FILE_BYTES)
    except (OSError, ValueError):
        return None


def _digest(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


def _write_together(folder: str, contents: dict[str, bytes]) -> None:
    """Write secrets (0600) so that a power cut leaves each old or new; one sync serves all."""
    if not contents:
        return
    for name, data in contents.items():
        path = f"{folder}/{name}.tmp"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path, flags, 0o600)
        try:
            write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    # Keys first: a certificate without its key cannot be told from one whose key was lost.
    for name in sorted(contents, key=lambda name: (not name.endswith(".key"), name)):
        os.replace(f"{folder}/{name}.tmp", f"{folder}/{name}")
    sync_directory(folder)
