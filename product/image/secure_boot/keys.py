"""An owner's keys for Secure Boot: RSA, each with a certificate that it has signed itself.

A folder, 0700, away from images and repositories, has three of them: ``pk`` (platform key: may
change KEK), ``kek`` (may change what the firmware trusts), ``db`` (signs what starts). Of each::

    db.key    the private key, PEM (PKCS #8), 0600
    db.crt    the certificate, PEM
    db.cer    the same in DER, as set-up programs of firmware read it
"""

from __future__ import annotations

import enum
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from product.image.cache import digest_of
from product.image.errors import ImageError
from product.image.secure_boot import authenticode, openpgp

NAMES = ("pk", "kek", "db")
# What every firmware takes; some take no larger ones.
BITS = 2048
# Firmware does not look at the dates; other programs do.
_DAYS = 30 * 365


class SigningKeyError(ImageError):
    """A key or certificate for Secure Boot is missing, exposed to others, or of no use."""


class LoaderKind(enum.StrEnum):
    """What the firmware starts: the owner's own GRUB, or Debian's by way of Microsoft's shim."""

    OWN = "own"
    SHIM = "shim"


@dataclass(frozen=True, slots=True)
class Signer:
    """A private key and its certificate."""

    key: rsa.RSAPrivateKey
    certificate: x509.Certificate

    @property
    def created(self) -> int:
        """Since when the certificate is valid, in seconds since 1970."""
        return int(self.certificate.not_valid_before_utc.timestamp())

    @property
    def sha256(self) -> str:
        """Of the certificate in DER, as hex digits: what tells one key from another."""
        return self.certificate.fingerprint(hashes.SHA256()).hex()


@dataclass(frozen=True, slots=True)
class Signing:
    """How an image is signed. The first of ``signers`` is the one that boot loaders of before
    trust; the others are its successors."""

    signers: tuple[Signer, ...]
    loader: LoaderKind = LoaderKind.OWN

    @property
    def digest(self) -> str:
        """Names the certificates, in their order, and the way to start."""
        return digest_of([signer.sha256 for signer in self.signers], self.loader.value)

    def program(self, content: bytes) -> bytes:
        """A program for UEFI with a signature of each signer. Raises PeError."""
        return authenticode.sign(content, [(one.key, one.certificate) for one in self.signers])

    def detached(self, content: bytes, date: int) -> bytes:
        """The signature by which GRUB knows the file, made at ``date`` (seconds since 1970)."""
        first = self.signers[0]
        return openpgp.sign(first.key, first.created, content, date)

    def grub_keys(self) -> list[bytes]:
        """For GRUB: the public keys of all signers."""
        return [openpgp.public_key(one.key.public_key(), one.created) for one in self.signers]


def generate(folder: Path, owner: str) -> list[Path]:
    """Make the three keys; ``owner`` stands in the certificates' names. Returns the files.

    Raises SigningKeyError, before anything is written, where one of the files exists.
    """
    files = [folder / f"{name}.{suffix}" for name in NAMES for suffix in ("key", "crt", "cer")]
    for file in files:
        if file.exists():
            raise SigningKeyError(
                f"{file} exists already, and a key is never overwritten",
                hint="choose another folder; docs/security.md says how a key is replaced",
            )
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in NAMES:
            signer = make(f"{owner} Secure Boot {name}")
            private = signer.key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            _write_new(folder / f"{name}.key", private, 0o600)
            for suffix, form in (
                ("crt", serialization.Encoding.PEM), ("cer", serialization.Encoding.DER)
            ):  # fmt: skip
                content = signer.certificate.public_bytes(form)
                _write_new(folder / f"{name}.{suffix}", content, 0o644)
    except (OSError, ValueError) as error:
        words = getattr(error, "strerror", None) or error
        raise SigningKeyError(f"cannot write keys to {folder}: {words}") from None
    return files


def make(name: str) -> Signer:
    """A new key, with a certificate of that common name. Raises ValueError for an odd name."""
    key = rsa.generate_private_key(65537, BITS)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC).replace(microsecond=0)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Signer(key, certificate)


def load(key: Path, certificate: Path) -> Signer:
    """Raises SigningKeyError where the two are not a key and its own certificate."""
    private = _load_key(key)
    content = _read(certificate, "the certificate")
    try:
        if b"-----BEGIN" in content:
            found = x509.load_pem_x509_certificate(content)
        else:
            found = x509.load_der_x509_certificate(content)
    except ValueError:
        raise SigningKeyError(
            f"{certificate} is no X.509 certificate, neither PEM nor DER",
            hint="name the .crt beside the key",
        ) from None
    if found.public_key() != private.public_key():
        raise SigningKeyError(
            f"{certificate} is not the certificate of the key {key}",
            hint="name a key and a certificate of one pair, in the same order where there are more",
        )
    return Signer(private, found)


def load_signing(
    keys: Sequence[Path], certificates: Sequence[Path], loader: LoaderKind
) -> Signing | None:
    """What the options of a build say; None where they name no key. Raises SigningKeyError."""
    if len(keys) != len(certificates):
        raise SigningKeyError(
            f"{len(keys)} keys and {len(certificates)} certificates for Secure Boot are named",
            hint="each --secure-boot-key has its --secure-boot-certificate, in the same order",
        )
    if not keys:
        return None
    pairs = zip(keys, certificates, strict=True)
    signers = tuple(load(key, certificate) for key, certificate in pairs)
    if len({signer.sha256 for signer in signers}) < len(signers):
        raise SigningKeyError("a key for Secure Boot is named twice")
    return Signing(signers, loader)


def _load_key(path: Path) -> rsa.RSAPrivateKey:
    content = _read(path, "the key")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise SigningKeyError(
            f"{path} has mode {mode:04o}: others than its owner can reach this private key",
            hint=f"if nobody has copied it: chmod 600 {path}; else make another and enrol that",
        )
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except (ValueError, TypeError):
        raise SigningKeyError(
            f"{path} is no private key in PEM without a password",
            hint="make keys: kubesolo-image secure-boot-keys FOLDER",
        ) from None
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size < BITS:
        what = f"RSA of {key.key_size} bits" if isinstance(key, rsa.RSAPrivateKey) else "not RSA"
        raise SigningKeyError(
            f"{path} is {what}, and firmware takes RSA of {BITS} bits or more",
            hint="make keys: kubesolo-image secure-boot-keys FOLDER",
        )
    return key


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SigningKeyError(
            f"cannot read {what} {path}: {error.strerror}",
            hint="make keys: kubesolo-image secure-boot-keys FOLDER",
        ) from None


def _write_new(file: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as stream:
        os.fchmod(stream.fileno(), mode)
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
