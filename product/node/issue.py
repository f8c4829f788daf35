"""Making and judging certificates, with `cryptography`; imported only where one is in doubt."""

from __future__ import annotations

import datetime
import ipaddress
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from product.node.pki import DAY, Leaf

# What parsing garbage raises: ValueError covers most, the others come from odd but valid PEM.
_GARBAGE = (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion)


class Pair(NamedTuple):
    """A private key with its certificate, both in PEM."""

    certificate: bytes
    key: bytes


class Clock(NamedTuple):
    """``now``, and ``floor``: the image's build date, before which no clock is right."""

    now: float
    floor: float

    @property
    def not_before(self) -> float:
        """A day before anything that a clock of this node may have said."""
        return min(self.now, self.floor) - DAY


def make_key() -> bytes:
    """A P-256 private key, PKCS 8 in PEM."""
    return _to_pem(ec.generate_private_key(ec.SECP256R1()))


def public_key(key: bytes) -> bytes:
    """The public half of a private key, PEM."""
    found = _load_key(key)
    assert found is not None
    return found.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def is_key(key: bytes) -> bool:
    """Whether this is a private key that can sign."""
    return _load_key(key) is not None


def make_authority(name: str, key: bytes, clock: Clock, lifetime: float) -> Pair:
    """A self-signed authority; with an old ``key``, what it signed before stays valid."""
    private = _load_key(key)
    assert private is not None
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        _builder(subject, subject, private.public_key(), clock, clock.now + lifetime)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), False)
    )
    return Pair(_sign(builder, private), key)


def make_leaf(leaf: Leaf, authority: Pair, clock: Clock, lifetime: float) -> Pair:
    """A new key and its certificate; it does not outlive the authority."""
    signer = _load_key(authority.key)
    issuer = x509.load_pem_x509_certificate(authority.certificate)
    assert signer is not None
    private = ec.generate_private_key(ec.SECP256R1())
    names = [x509.NameAttribute(NameOID.COMMON_NAME, leaf.common_name)]
    if leaf.organization:
        names.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, leaf.organization))
    end = min(clock.now + lifetime, issuer.not_valid_after_utc.timestamp())
    public = private.public_key()
    builder = (
        _builder(x509.Name(names), issuer.subject, public, clock, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(_purposes(leaf)), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False
        )
    )
    if alternatives := _alternatives(leaf):
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return Pair(_sign(builder, signer), _to_pem(private))


def judge_authority(pair: Pair, name: str, clock: Clock, renewal: float) -> str | None:
    """Why this certificate cannot serve as the authority; None: it can. Its key is sound."""
    try:
        certificate = x509.load_pem_x509_certificate(pair.certificate)
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        certificate.verify_directly_issued_by(certificate)
    except (*_GARBAGE, x509.ExtensionNotFound, InvalidSignature):
        return "damaged"
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    if not _belong(certificate, pair.key):
        return "of another key"
    if not constraints.value.ca or certificate.subject != subject:
        return "damaged"
    return _judge_time(certificate, clock, renewal)


def judge_leaf(pair: Pair, leaf: Leaf, authority: Pair, clock: Clock, renewal: float) -> str | None:
    """Why this certificate must be made anew; None: it need not."""
    issuer = x509.load_pem_x509_certificate(authority.certificate)
    try:
        certificate = x509.load_pem_x509_certificate(pair.certificate)
        extensions = certificate.extensions
        purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (*_GARBAGE, x509.ExtensionNotFound):
        return "damaged"
    try:
        certificate.verify_directly_issued_by(issuer)
    except (*_GARBAGE, InvalidSignature):
        return "of another authority"
    if not _belong(certificate, pair.key):
        return "of another key"
    try:
        said = list(extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        said = []
    names = {attribute.oid: attribute.value for attribute in certificate.subject}
    wanted = {NameOID.COMMON_NAME: leaf.common_name}
    if leaf.organization:
        wanted[NameOID.ORGANIZATION_NAME] = leaf.organization
    if names != wanted or said != _alternatives(leaf) or list(purposes) != _purposes(leaf):
        return "for another name or address"
    return _judge_time(certificate, clock, renewal)


def start_of(certificate: bytes) -> float:
    """From when a certificate holds."""
    return x509.load_pem_x509_certificate(certificate).not_valid_before_utc.timestamp()


def end_of(certificate: bytes) -> float:
    """When a certificate ends."""
    return x509.load_pem_x509_certificate(certificate).not_valid_after_utc.timestamp()


def _judge_time(certificate: x509.Certificate, clock: Clock, renewal: float) -> str | None:
    end = certificate.not_valid_after_utc.timestamp()
    if clock.now >= end:
        return "expired"
    if clock.now >= end - renewal:
        return "soon to expire"
    if clock.now < certificate.not_valid_before_utc.timestamp():
        return "not valid yet by this node's clock"
    return None


def _belong(certificate: x509.Certificate, key: bytes) -> bool:
    private = _load_key(key)
    return private is not None and private.public_key() == certificate.public_key()


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    clock: Clock,
    end: float,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_date(clock.not_before))
        .not_valid_after(_date(end))
    )


def _sign(builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> bytes:
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True, key_cert_sign=authority, crl_sign=authority,
        content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _purposes(leaf: Leaf) -> list[x509.ObjectIdentifier]:
    purposes = []
    if leaf.server:
        purposes.append(ExtendedKeyUsageOID.SERVER_AUTH)
    if leaf.client:
        purposes.append(ExtendedKeyUsageOID.CLIENT_AUTH)
    return purposes


def _alternatives(leaf: Leaf) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in leaf.dns]
    return names + [x509.IPAddress(ipaddress.ip_address(text)) for text in leaf.addresses]


def _date(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(int(seconds), datetime.UTC)


def _load_key(key: bytes) -> ec.EllipticCurvePrivateKey | None:
    try:
        found = serialization.load_pem_private_key(key, None)
    except _GARBAGE:
        return None
    return found if isinstance(found, ec.EllipticCurvePrivateKey) else None


def _to_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
