"""Authorities and certificates for servers and clients of tests."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)


class Authority:
    """Signs what ``issue`` makes; its own certificate is ``path``, beside its private key."""

    def __init__(self, folder: Path, name: str = "test") -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._key = generate_private_key(SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._sign(self._name, self._key, "127.0.0.1", authority=True)
        self.path = folder / "authority.pem"
        self.path.write_bytes(_pem(self.certificate))

    def issue(
        self, name: str, host: str = "127.0.0.1", *, ends: timedelta = DAY
    ) -> tuple[Path, Path]:
        """Certificate and private key of ``host`` as PEM files; ``ends`` from now."""
        key = generate_private_key(SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        paths = (self._folder / f"{name}.pem", self._folder / f"{name}.key")
        paths[0].write_bytes(_pem(self._sign(subject, key, host, ends=ends)))
        paths[1].write_bytes(private(key))
        return paths

    def itself(self) -> Path:
        """The authority as a server: its key and certificate in one file."""
        path = self._folder / "server.pem"
        path.write_bytes(private(self._key) + _pem(self.certificate))
        return path

    def _sign(
        self,
        subject: x509.Name,
        key: EllipticCurvePrivateKey,
        host: str,
        *,
        ends: timedelta = DAY,
        authority: bool = False,
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        try:
            named: x509.GeneralName = x509.IPAddress(ip_address(host))
        except ValueError:
            named = x509.DNSName(host)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 10 * DAY)
            .not_valid_after(now + ends)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([named]), critical=False)
            .sign(self._key, hashes.SHA256())
        )


def private(key: EllipticCurvePrivateKey, passphrase: bytes | None = None) -> bytes:
    """``key`` as PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(passphrase)
        if passphrase
        else serialization.NoEncryption(),
    )


def server_context(
    certificate: tuple[Path, Path], clients: Path | None = None, *, newest: bool = True
) -> ssl.SSLContext:
    """Of a server; with ``clients``, an authority's file, it wants a certificate of each."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    if not newest:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients)
    return context


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def certificate(folder: Path) -> Path:
    """Key and certificate of an authority of its own, for 127.0.0.1."""
    return Authority(folder).itself()
