"""Key files: private, never overwritten, and nothing but Ed25519."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from product.release.errors import KeyFileError
from product.release.keys import ROLES, KeyDirectory


@pytest.fixture
def keys(tmp_path: Path) -> KeyDirectory:
    return KeyDirectory.generate(tmp_path / "keys")


def test_each_role_gets_a_private_key_of_its_own(keys: KeyDirectory) -> None:
    assert keys.path.stat().st_mode & 0o777 == 0o700
    identities = set()
    for role in ROLES:
        (file,) = keys.files(role)
        assert file.stat().st_mode & 0o777 == 0o600
        assert file.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")
        assert keys.public_pem(role) == (keys.path / f"{role}.pub.pem").read_bytes()
        identities |= {signer.public_key.keyid for signer in keys.signers(role)}
    assert len(identities) == len(ROLES)


def test_several_keys_of_a_role_keep_their_order(tmp_path: Path) -> None:
    keys = KeyDirectory.generate(tmp_path / "keys", {"root": 11})
    assert [file.name for file in keys.files("root")][::10] == ["root.pem", "root-11.pem"]
    assert keys.public_pem("root").count(b"BEGIN PUBLIC KEY") == 11


@pytest.mark.parametrize("existing", ["snapshot.pem", "snapshot.pub.pem"])
def test_no_key_is_ever_overwritten(tmp_path: Path, existing: str) -> None:
    (tmp_path / existing).write_text("precious")
    with pytest.raises(KeyFileError, match="exists already"):
        KeyDirectory.generate(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [existing]
    assert (tmp_path / existing).read_text() == "precious"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_key_that_others_can_reach_is_refused(keys: KeyDirectory, mode: int) -> None:
    (keys.path / "targets.pem").chmod(mode)
    with pytest.raises(KeyFileError, match=f"mode {mode:04o}") as caught:
        keys.signers("targets")
    assert "chmod 600" in (caught.value.hint or "")


def elliptic() -> bytes:
    return generate_private_key(SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "not an unencrypted PEM"), (b"garbage", "PEM"), (elliptic(), "only Ed25519")],
)
def test_another_file_is_not_a_key(keys: KeyDirectory, content: bytes, words: str) -> None:
    (keys.path / "root.pem").write_bytes(content)
    with pytest.raises(KeyFileError, match=words):
        keys.signers("root")


def test_an_encrypted_key_is_refused_by_name(keys: KeyDirectory) -> None:
    (file,) = keys.files("root")
    key = serialization.load_pem_private_key(file.read_bytes(), None)
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(KeyFileError, match="unencrypted"):
        keys.signers("root")


def test_a_missing_directory_names_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError) as caught:
        KeyDirectory(tmp_path / "none").signers("root")
    assert "kubesolo-release keys" in (caught.value.hint or "")


def test_unknown_roles_make_no_keys(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="mirror"):
        KeyDirectory.generate(tmp_path / "keys", {"mirror": 1})
    assert not (tmp_path / "keys").exists()
