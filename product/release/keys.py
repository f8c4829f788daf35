"""Ed25519 keys of the four TUF roles, one PEM file (PKCS#8) a key in a private directory.

``root.pem`` is the root role's key; a role that has several adds ``root-2.pem`` and so on.
``root.pub.pem`` beside each holds the public half, which a node pins as ``pubkey``. A directory
may lack a role's key: the root key of a careful publisher lies on another medium.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Mapping, Sequence, Set
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from securesystemslib.signer._crypto_signer import CryptoSigner
from securesystemslib.signer._key import SSlibKey

from product.release.errors import KeyFileError
from product.release.storage import sync_directory

ROLES = ("root", "targets", "snapshot", "timestamp")
# Signs what people download (product.release.downloads); no role of the repository.
DOWNLOADS = "downloads"
KEYS = (*ROLES, DOWNLOADS)
RETIRED = "retired"
_SUFFIX = ".pem"
_PUBLIC_SUFFIX = ".pub.pem"
_NEXT = "next"


class KeyDirectory:
    """The private keys in one directory; reads a key only when a signature needs it."""

    def __init__(self, path: Path, *, also: Sequence[Path] = ()) -> None:
        """``also`` are directories with more keys of the roles, which are only ever read."""
        self.path = path
        self._also = tuple(KeyDirectory(other) for other in also)

    @classmethod
    def generate(cls, path: Path, counts: Mapping[str, int] | None = None) -> KeyDirectory:
        """Make ``counts[role]`` keys for each role (one where a role is not named).

        Raises KeyFileError, before anything is written, where a key of that name exists.
        """
        wanted = dict.fromkeys(ROLES, 1) | dict(counts or {})
        unknown = sorted(set(wanted) - set(KEYS))
        if unknown or any(count < 0 for count in wanted.values()):
            raise KeyFileError(f"cannot make keys for {wanted}: the roles are {', '.join(KEYS)}")
        files = [
            path / _file_name(role, number)
            for role, count in wanted.items()
            for number in range(1, count + 1)
        ]
        for file in files:
            if file.exists() or _public_path(file).exists():
                raise KeyFileError(
                    f"{file} exists already, and a key is never overwritten",
                    hint="choose another directory, or rotate the key: kubesolo-release rotate",
                )
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            for file in files:
                _write_key(file, Ed25519PrivateKey.generate())
        except OSError as error:
            raise KeyFileError(f"cannot write keys to {path}: {error.strerror}") from None
        return cls(path)

    def signers(self, role: str) -> list[CryptoSigner]:
        """The role's keys, ready to sign; empty where the directory holds none.

        Raises KeyFileError for a file that is not an Ed25519 key or that others may read.
        """
        return [load_signer(file) for file in self.files(role)]

    def files(self, role: str) -> list[Path]:
        """The role's key files in the order of their numbers."""
        own = self._numbered(role)
        return [*own, *(file for other in self._also for file in other.files(role))]

    def public_pem(self, role: str) -> bytes:
        """The public halves of the role's keys, as PEM after PEM: what ``pubkey`` names."""
        files = self.files(role)
        if not files:
            raise KeyFileError(f"{self.path} holds no key of the role {role}")
        return b"".join(_public_bytes(_load(file)) for file in files)

    def successors(self, role: str) -> list[CryptoSigner]:
        """The keys that a rotation under way will put in the place of the role's keys."""
        return [load_signer(file) for file in self._numbered(role, f".{_NEXT}")]

    def prepare_successors(self, role: str, count: int) -> list[CryptoSigner]:
        """``count`` successors, made now where an interrupted rotation has not made them."""
        for number in range(1, count + 1):
            file = self.path / _file_name(role, number, f".{_NEXT}")
            if not file.exists():
                _public_path(file).unlink(missing_ok=True)
                _write_key(file, Ed25519PrivateKey.generate())
        return self.successors(role)

    def promote_successors(self, role: str, keep: Set[str]) -> None:
        """Retire the role's keys whose id is not in ``keep``; the successors take their names.

        Each step is a rename, and after a cut between two of them another call finishes the rest.
        """
        retired = self.path / RETIRED
        retired.mkdir(mode=0o700, exist_ok=True)
        for file in self._numbered(role):
            keyid = load_signer(file).public_key.keyid
            if keyid not in keep:
                target = retired / f"{file.stem}-{keyid[:16]}{_SUFFIX}"
                _move(_public_path(file), _public_path(target))
                _move(file, target)
        for file in self._numbered(role, f".{_NEXT}"):
            final = self.path / file.name.replace(f".{_NEXT}", "")
            _move(_public_path(file), _public_path(final))
            _move(file, final)
        sync_directory(retired)
        sync_directory(self.path)

    def _numbered(self, role: str, infix: str = "") -> list[Path]:
        pattern = re.compile(rf"{role}(?:-([1-9][0-9]*))?{re.escape(infix + _SUFFIX)}")
        if not self.path.is_dir():
            raise KeyFileError(
                f"there is no key directory {self.path}",
                hint=f"make one: kubesolo-release keys {self.path}",
            )
        numbered = []
        for file in self.path.iterdir():
            match = pattern.fullmatch(file.name)
            if match:
                numbered.append((int(match[1] or 1), file))
        return [file for _, file in sorted(numbered)]


def load_signer(file: Path) -> CryptoSigner:
    """The Ed25519 private key in ``file``; raises KeyFileError for anything else."""
    return CryptoSigner(_load(file))


def load_public_key(file: Path) -> SSlibKey:
    """The Ed25519 public key in a PEM file; raises KeyFileError for anything else."""
    try:
        key = serialization.load_pem_public_key(file.read_bytes())
    except OSError as error:
        raise KeyFileError(f"cannot read the key {file}: {error.strerror}") from None
    except (ValueError, TypeError) as error:
        raise KeyFileError(f"{file} is not a PEM public key: {error}") from None
    if not isinstance(key, Ed25519PublicKey):
        raise KeyFileError(f"{file} holds {type(key).__name__}, only Ed25519 keys are used")
    return SSlibKey.from_crypto(key)


def _file_name(role: str, number: int, infix: str = "") -> str:
    return f"{role}{'' if number == 1 else f'-{number}'}{infix}{_SUFFIX}"


def _public_path(file: Path) -> Path:
    return file.with_name(file.name.removesuffix(_SUFFIX) + _PUBLIC_SUFFIX)


def _move(source: Path, target: Path) -> None:
    """Rename, unless an interrupted call has done it already."""
    with contextlib.suppress(FileNotFoundError):
        source.replace(target)


def _load(file: Path) -> Ed25519PrivateKey:
    try:
        with file.open("rb") as stream:
            mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
            data = stream.read()
    except OSError as error:
        raise KeyFileError(f"cannot read the key {file}: {error.strerror}") from None
    if mode & 0o077:
        raise KeyFileError(
            f"{file} has mode {mode:04o}: others than its owner can reach this private key",
            hint=f"if nobody has copied it: chmod 600 {file}; else rotate it",
        )
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError) as error:
        raise KeyFileError(f"{file} is not an unencrypted PEM private key: {error}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(f"{file} holds a {type(key).__name__}, only Ed25519 keys are used")
    return key


def _public_bytes(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _write_key(file: Path, key: Ed25519PrivateKey) -> None:
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    # The public half first: where the private one exists, both do.
    _write_new(_public_path(file), _public_bytes(key), 0o644)
    _write_new(file, private, 0o600)
    sync_directory(file.parent)


def _write_new(file: Path, data: bytes, mode: int) -> None:
    """Write a file that did not exist; O_EXCL is what keeps a key from being overwritten."""
    temporary = file.with_name(f".{file.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        os.fchmod(descriptor, mode)
        os.write(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    try:
        # link, unlike rename, fails where the name is taken
        os.link(temporary, file)
    finally:
        temporary.unlink()
