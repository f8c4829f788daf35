"""An owner's keys: made once, loaded as pairs, refused with one clear error."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from product.image.secure_boot import keys
from product.image.secure_boot.keys import LoaderKind, SigningKeyError, load, load_signing


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("owner") / "keys"
    keys.generate(folder, "Example")
    return folder


def test_three_keys_of_2048_bits_lie_in_a_folder_of_their_own(owner: Path) -> None:
    assert stat.S_IMODE(owner.stat().st_mode) == 0o700
    for name in keys.NAMES:
        assert stat.S_IMODE((owner / f"{name}.key").stat().st_mode) == 0o600
        signer = load(owner / f"{name}.key", owner / f"{name}.crt")
        assert signer.key.key_size == 2048
        assert signer.certificate.subject.rfc4514_string() == f"CN=Example Secure Boot {name}"
        der = x509.load_der_x509_certificate((owner / f"{name}.cer").read_bytes())
        assert der == signer.certificate
    assert len({load(owner / f"{n}.key", owner / f"{n}.crt").sha256 for n in keys.NAMES}) == 3


def test_a_key_is_never_overwritten(owner: Path) -> None:
    before = (owner / "db.key").read_bytes()
    with pytest.raises(SigningKeyError, match=r"pk\.key exists already"):
        keys.generate(owner, "Example")
    assert (owner / "db.key").read_bytes() == before


def test_a_certificate_of_another_key_is_refused(owner: Path) -> None:
    with pytest.raises(SigningKeyError, match=r"kek\.crt is not the certificate of the key"):
        load(owner / "db.key", owner / "kek.crt")


def test_a_key_that_others_can_read_is_refused(owner: Path, tmp_path: Path) -> None:
    key = tmp_path / "db.key"
    key.write_bytes((owner / "db.key").read_bytes())
    key.chmod(0o640)
    with pytest.raises(SigningKeyError, match="mode 0640"):
        load(key, owner / "db.crt")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"nothing", "no private key in PEM"),
        (None, "cannot read the key"),
        ("ec", "not RSA"),
        ("small", "RSA of 1024 bits"),
    ],
)
def test_what_firmware_cannot_use_is_refused(
    owner: Path, tmp_path: Path, content: bytes | str | None, said: str
) -> None:
    key = tmp_path / "other.key"
    private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    if content in ("ec", "small"):
        private = ec.generate_private_key(ec.SECP256R1())
        if content == "small":
            private = rsa.generate_private_key(65537, 1024)
        content = private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    if isinstance(content, bytes):
        key.write_bytes(content)
        key.chmod(0o600)
    with pytest.raises(SigningKeyError, match=said) as caught:
        load(key, owner / "db.crt")
    assert caught.value.hint


def test_a_build_names_each_key_with_its_certificate(owner: Path) -> None:
    assert load_signing((), (), LoaderKind.OWN) is None
    pair = (owner / "db.key", owner / "db.crt")
    with pytest.raises(SigningKeyError, match="1 keys and 0 certificates"):
        load_signing(pair[:1], (), LoaderKind.OWN)
    with pytest.raises(SigningKeyError, match="named twice"):
        load_signing((pair[0],) * 2, (pair[1],) * 2, LoaderKind.OWN)
    signing = load_signing(pair[:1], pair[1:], LoaderKind.OWN)
    other = load_signing(pair[:1], pair[1:], LoaderKind.SHIM)
    assert signing is not None
    assert other is not None
    # Another way to start is another image.
    assert signing.digest != other.digest
