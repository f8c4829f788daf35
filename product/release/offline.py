"""The next root, written to a file, signed where the root's keys lie, and merged.

The root's keys belong on a medium that is in no machine but when they sign. So the next root is
made on the publisher's host (``export_root``), carried to the keys, as often as there are owners of
keys (``sign_root``), and carried back (``merge_root``). The file is ordinary TUF root metadata, so
that whoever signs can read what he signs.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from tuf.api._payload import Root
from tuf.api.exceptions import RepositoryError as TufError
from tuf.api.metadata import Metadata

from product.release.errors import RepositoryError
from product.release.keys import ROLES, KeyDirectory, load_public_key
from product.release.repository import Repository
from product.release.storage import exclusive, write_file


class Signed(NamedTuple):
    """How far a root is: the version, the ids of the keys that signed it, and for each of the
    roots that must accept it (the former and its own) how many signatures it lacks."""

    version: int
    keyids: tuple[str, ...]
    lacking_former: int
    lacking_own: int


def export_root(
    repository: Repository,
    file: Path,
    *,
    add: Mapping[str, Sequence[Path]] | None = None,
    remove: Sequence[Path] = (),
    thresholds: Mapping[str, int] | None = None,
    expires: datetime | None = None,
) -> int:
    """Write the root after the present one to ``file``, unsigned; its version.

    ``add[role]`` are public keys that the role gets, ``remove`` public keys that every role loses,
    ``thresholds[role]`` how many must sign from then on. Raises RepositoryError for what would
    leave a role with fewer keys than must sign, KeyFileError for a file that is no key.
    """
    if file.exists():
        raise RepositoryError(
            f"{file} exists already, and may hold signatures",
            hint="choose another name, or remove it",
        )
    current = repository.read()
    repository.check_clock(current)
    root = copy.deepcopy(current.root)
    gone = [load_public_key(path) for path in remove]
    for path, key in zip(remove, gone, strict=True):
        roles = [role for role in ROLES if key.keyid in root.roles[role].keyids]
        if not roles:
            raise RepositoryError(f"no role trusts the key {path} ({key.keyid[:16]})")
        for role in roles:
            root.revoke_key(key.keyid, role)
    for role, paths in (add or {}).items():
        _require_role(role)
        for path in paths:
            root.add_key(load_public_key(path), role)
    for role, threshold in (thresholds or {}).items():
        _require_role(role)
        root.roles[role].threshold = threshold
    for role in ROLES:
        trusted = root.roles[role]
        if not 1 <= trusted.threshold <= len(trusted.keyids):
            raise RepositoryError(
                f"{role} would have {len(trusted.keyids)} keys and a threshold of "
                f"{trusted.threshold}",
                hint="add a key of the role, or set its threshold",
            )
    root.version += 1
    root.expires = expires or repository.end_of("root")
    write_file(file, Metadata(root).to_bytes())
    return root.version


def sign_root(file: Path, keys: KeyDirectory) -> tuple[str, ...]:
    """Add the signatures of the root keys in ``keys`` to ``file``; the ids that signed now.

    Keys that are to be removed sign as well: the former root asks for theirs. Raises
    RepositoryError for a file that is no root, and where ``keys`` holds no root key.
    """
    metadata = _load(file)
    signers = keys.signers("root")
    if not signers:
        raise RepositoryError(
            f"{keys.path} holds no key of the role root", hint="name the directory with root.pem"
        )
    for signer in signers:
        metadata.sign(signer, append=True)
    write_file(file, metadata.to_bytes())
    return tuple(signer.public_key.keyid for signer in signers)


def describe_root(file: Path) -> list[str]:
    """For whoever is asked to sign: the version, its end, and which keys each role will have."""
    root = _load(file).signed
    lines = [f"root version {root.version}, valid until {root.expires:%Y-%m-%d %H:%M} UTC"]
    for role in ROLES:
        trusted = root.roles[role]
        keys = ", ".join(keyid[:16] for keyid in trusted.keyids)
        lines.append(f"{role:<10} {trusted.threshold} of {len(trusted.keyids)} must sign: {keys}")
    return lines


def inspect_root(repository: Repository, file: Path) -> Signed:
    """What ``file`` still lacks to follow the repository's root. Raises RepositoryError."""
    metadata = _load(file)
    former = repository.read().root
    return Signed(
        metadata.signed.version,
        tuple(metadata.signatures),
        _lacking(former, metadata),
        _lacking(metadata.signed, metadata),
    )


def merge_root(repository: Repository, file: Path) -> int:
    """Serve the root in ``file`` as the repository's next; its version.

    Where it changes the keys of another role, that role's metadata is signed anew first, by old and
    new keys at hand, so that at no moment a client finds metadata that it cannot verify. Raises
    RepositoryError where signatures are missing or the file is not the next root.
    """
    metadata = _load(file)
    root = metadata.signed
    with exclusive(repository.directory):
        current = repository.read()
        if root.version != current.root.version + 1:
            raise RepositoryError(
                f"{file} is root version {root.version}, and {repository.directory} is at "
                f"{current.root.version}",
                hint="export the next root anew: kubesolo-release root export",
            )
        if root.expires <= repository.now():
            raise RepositoryError(
                f"the root in {file} ended on {root.expires:%Y-%m-%d}: every node would refuse it",
                hint="export the next root anew: kubesolo-release root export",
            )
        for asking in (current.root, root):
            if lacking := _lacking(asking, metadata):
                which = "former" if asking is current.root else "new"
                raise RepositoryError(
                    f"{file} lacks {lacking} signatures that the {which} root asks for",
                    hint="sign it where the keys lie: kubesolo-release root sign",
                )
        changed = _changed(current.root, root)
        if changed:
            repository.sign_for(current, root, changed)
        repository.serve_root(metadata, (), current.root)
    return root.version


def _changed(former: Root, root: Root) -> tuple[str, ...]:
    """The online roles that the next root gives other keys or another threshold."""
    return tuple(
        role
        for role in ROLES
        if role != "root" and former.roles[role].to_dict() != root.roles[role].to_dict()
    )


def _lacking(root: Root, metadata: Metadata[Root]) -> int:
    result = root.get_verification_result("root", metadata.signed_bytes, metadata.signatures)
    return max(0, result.threshold - len(result.signed))


def _require_role(role: str) -> None:
    if role not in ROLES:
        raise RepositoryError(f"there is no role {role!r}: the roles are {', '.join(ROLES)}")


def _load(file: Path) -> Metadata[Root]:
    try:
        metadata: Metadata[Root] = Metadata.from_bytes(file.read_bytes())
    except OSError as error:
        raise RepositoryError(f"cannot read {file}: {error.strerror}") from None
    except TufError as error:
        raise RepositoryError(f"{file} is no root metadata: {error}") from None
    if not isinstance(metadata.signed, Root):
        raise RepositoryError(f"{file} holds {metadata.signed.type} metadata, not root")
    return metadata
