"""Keys of three kinds: SSH, PEM and Portainer's; secrets are never shown."""

from __future__ import annotations

import base64
import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from product.cloudinit.edge import edge_key as read_edge_key
from product.cloudinit.pem import certificates, public_keys
from product.cloudinit.ssh_keys import authorized_key
from product.cloudinit.tests.support import ED25519, EDGE, edge_key, refusal, ssh_key

RSA = ssh_key("ssh-rsa", b"\1\0\1", b"\0\xc5" + b"x" * 255)


def _certificate() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "site authority")])
    start = datetime.datetime(2026, 1, 1)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=10))
        .sign(key, SHA256())
    )
    return built.public_bytes(Encoding.PEM).decode()


def _public(key: object) -> str:
    public = key.public_key()  # type: ignore[attr-defined]
    pem: bytes = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem.decode()


ED_PRIVATE = Ed25519PrivateKey.generate()
PRIVATE = ED_PRIVATE.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
SK = ssh_key("sk-ssh-ed25519@openssh.com", b"k" * 32, b"ssh:")
PUBLIC = _public(ED_PRIVATE)
CERTIFICATE = _certificate()


@pytest.mark.parametrize(
    "line",
    [
        ED25519,
        RSA,
        RSA.rpartition(" ")[0],
        f'no-pty,command="echo ssh-rsa \\"x\\"" {ED25519}',
        f"restrict {ED25519} with more words",
        f"no-port-forwarding,no-agent-forwarding,no-X11-forwarding,No-Pty {ED25519}",
        f'restrict,permitopen="localhost:80",permitopen="[2001:db8::1]:*" {ED25519}',
        f'command="a,from=b c" {ED25519}',
        f"no-touch-required,verify-required {SK}",
        ssh_key("ecdsa-sha2-nistp256", b"nistp256", b"\4" * 65),
        SK,
    ],
)
def test_a_line_of_authorized_keys(line: str) -> None:
    assert authorized_key(line) == line
    assert authorized_key(f"  {line}\n") == line
    assert authorized_key(f"\ufeff{line}\r\n") == line


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (ssh_key("ssh-dss", b"x", b"y"), "no SSH server takes any more"),
        ("ssh-ed25519 AAAA", "damaged or cut off"),
        ("ssh-ed25519 A%%%", "is not base64"),
        (ED25519[:-40], "is not base64"),
        (ssh_key("ssh-ed25519", b"short"), "damaged or cut off"),
        (ED25519.replace("ssh-ed25519", "ssh-rsa"), "damaged or cut off"),
        (ssh_key("ssh-rsa", b"\1\0\1", b"\xc5" + b"x" * 127), "1024 bits are too few"),
        ("ssh-ed25519", "is no type of key"),
        ("github:somebody", "keys are not fetched"),
        ("https://example.org/key", "keys are not fetched"),
        ("", "is empty"),
        (f"two words {ED25519}", "is no type of key"),
        (f'from="10.0.0.0/8" {ED25519}', "option from= is none that the node's SSH server knows"),
        (f'no-pty,from="10.0.0.1,10.0.0.2" {ED25519}', "the option from= is none"),
        (f"cert-authority {ED25519}", "the option cert-authority is none"),
        (f"blah {ED25519}", "it would refuse the key; no-port-forwarding, no-agent-forwarding"),
        (f"no-pty=1 {ED25519}", "the option no-pty= is none"),
        (f"no-pty,,restrict {ED25519}", "has an empty option before the key"),
        (f"no-pty, {ED25519}", "has an empty option before the key"),
        (f'command="a""b" {ED25519}', "command= needs its value in quotes"),
        (f"command=reboot {ED25519}", 'command= needs its value in quotes: command="..."'),
        (f'permitopen="here" {ED25519}', "permitopen=: 'here' is not HOST:PORT"),
        (f'permitopen="a:70000" {ED25519}', "permitopen=: 'a:70000' is not HOST:PORT"),
        ("x" * 20_000, "is not a line"),
        (f"{ED25519}\n{RSA}\x07", "is not a line"),
        ("-----BEGIN OPENSSH PRIVATE KEY----- c2VjcmV0", "PRIVATE key: never hand it out"),
    ],
)
def test_what_is_no_such_line(line: str, said: str) -> None:
    message = refusal(authorized_key, line)
    assert said in message
    assert "c2VjcmV0" not in message


def test_certificates_are_read_and_written_again() -> None:
    assert certificates(CERTIFICATE) == CERTIFICATE
    assert certificates(f"# a comment\n{CERTIFICATE}\n{CERTIFICATE}") == CERTIFICATE * 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not PEM"),
        ("MIIB", "is not PEM"),
        (CERTIFICATE[:200], "is cut off"),
        (CERTIFICATE.replace("M", "", 1), "is damaged"),
        (PUBLIC, "is PUBLIC KEY, not a certificate"),
        ("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----", "is damaged"),
        ("-----BEGIN CERTIFICATE-----" + " " * 100_000, "is cut off"),
        ("x" * 200_000, "at most"),
        (CERTIFICATE + PRIVATE, "PRIVATE key: never hand it out"),
    ],
)
def test_what_is_no_certificate(text: str, said: str) -> None:
    message = refusal(certificates, text)
    assert said in message
    _no_secret(message)


def test_public_keys() -> None:
    assert public_keys(PUBLIC) == PUBLIC
    assert public_keys(PUBLIC * 2) == PUBLIC * 2
    for text, said in (
        (PRIVATE, "PRIVATE key"),
        (CERTIFICATE, "is CERTIFICATE, not a PUBLIC KEY"),
        (_public(ec.generate_private_key(ec.SECP256R1())), "is not an Ed25519 key"),
        (PUBLIC.replace("M", "", 1), "is damaged"),
        ("text", "is not PEM"),
    ):
        message = refusal(public_keys, text)
        assert said in message
        _no_secret(message)


def _no_secret(message: str) -> None:
    for line in PRIVATE.splitlines()[1:-1]:
        assert line not in message


@pytest.mark.parametrize("text", [edge_key(), edge_key().rstrip("="), f" {edge_key()}\n"])
def test_an_edge_key_padded_or_not(text: str) -> None:
    assert read_edge_key(text) == edge_key().rstrip("=")


def test_an_edge_key_of_either_alphabet() -> None:
    wide = EDGE.replace("AbC", "???>>>~~~")
    assert read_edge_key(base64.urlsafe_b64encode(wide.encode()).decode())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("***", "is not base64"),
        (edge_key()[:-3], "is not base64"),
        (edge_key("https://x|y|z"), "has 3 parts"),
        (edge_key("https://x|y|z|1|2"), "has 5 parts"),
        (edge_key("x|y:8000|z|7"), "no URL of a Portainer server"),
        (edge_key("ftp://x|y:8000|z|7"), "no URL of a Portainer server"),
        (edge_key("https://[x|y:8000|z|7"), "no URL of a Portainer server"),
        (edge_key("https://x||z|7"), "no address or fingerprint"),
        (edge_key("https://x|y|z|seven"), "no number of an environment"),
        ("A" * 9000, "more than any Edge key"),
        (base64.b64encode(b"\xff\xfe|a|b|c").decode(), "is not base64"),
    ],
)
def test_what_is_no_edge_key_is_said_without_showing_it(text: str, said: str) -> None:
    message = refusal(read_edge_key, text)
    assert said in message
    assert not text or text not in message
