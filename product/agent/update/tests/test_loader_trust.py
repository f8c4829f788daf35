"""A boot loader that this firmware would not start is not installed."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from product.agent.errors import AgentError
from product.agent.tests.world import World
from product.agent.update import loader_trust
from product.agent.update.loader_trust import require_trusted, trusted_certificates
from product.image.secure_boot import keys
from product.image.secure_boot.keys import Signer, Signing

NAME = "EFI/BOOT/BOOTX64.EFI"
OWNER = bytes(16)
# EFI_CERT_SHA256_GUID: the digest of a program, no certificate.
SHA256 = bytes.fromhex("2616c4c14c509240aca941f936934328")
ATTRIBUTES = b"\x27\0\0\0"


def program(*signers: Signer) -> bytes:
    """The least that is a program for UEFI, signed."""
    content = bytearray(b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x40))
    content += b"PE\0\0" + struct.pack("<HHIIIHH", 0x8664, 0, 0, 0, 0, 240, 0)
    content += struct.pack("<H", 0x20B).ljust(240, b"\0")
    return Signing(tuple(signers)).program(bytes(content))


def signature_list(kind: bytes, entry: bytes) -> bytes:
    size = 16 + len(entry)
    return kind + struct.pack("<III", 28 + size, 0, size) + OWNER + entry


def firmware_trusts(world: World, *signers: Signer) -> None:
    content = ATTRIBUTES + signature_list(SHA256, bytes(32))
    for signer in signers:
        content += signature_list(loader_trust._X509, der(signer))
    path = Path(world.paths.efi_variables) / loader_trust._DB
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def der(signer: Signer) -> bytes:
    return signer.certificate.public_bytes(Encoding.DER)


@pytest.fixture(scope="module")
def old() -> Signer:
    return keys.make("old")


@pytest.fixture(scope="module")
def new() -> Signer:
    return keys.make("new")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def test_the_certificates_of_the_firmware_are_read(world: World, old: Signer, new: Signer) -> None:
    assert trusted_certificates(world.paths) == set()
    firmware_trusts(world, old, new)
    assert trusted_certificates(world.paths) == {der(old), der(new)}
    path = Path(world.paths.efi_variables) / loader_trust._DB
    for length in range(0, len(path.read_bytes()), 97):
        path.write_bytes(path.read_bytes()[: -length or None])
        assert trusted_certificates(world.paths) <= {der(old), der(new)}


def test_what_the_firmware_trusts_is_installed(world: World, old: Signer, new: Signer) -> None:
    firmware_trusts(world, new)
    require_trusted(world.paths, NAME, program(new), program(old))
    # A release of a change of keys.
    require_trusted(world.paths, NAME, program(old, new), None)


def test_what_it_does_not_trust_is_refused(world: World, old: Signer, new: Signer) -> None:
    firmware_trusts(world, old)
    for installed in (program(old), program(old, new), None):
        with pytest.raises(AgentError) as caught:
            require_trusted(world.paths, NAME, program(new), installed)
        assert caught.value.code == "loader-untrusted"
    with pytest.raises(AgentError):
        require_trusted(world.paths, NAME, b"MZ", program(old))


def test_where_the_firmware_says_nothing_the_installed_one_counts(
    world: World, old: Signer, new: Signer
) -> None:
    require_trusted(world.paths, NAME, program(new), program(old, new))
    with pytest.raises(AgentError):
        require_trusted(world.paths, NAME, program(new), program(old))
