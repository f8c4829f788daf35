"""A key in a TPM: what gives it back, and what does not."""

from __future__ import annotations

import pytest

from product.encryption.errors import EncryptionError, ForeignTpmError, NoTpmError, PolicyError
from product.encryption.tests.conftest import SoftwareTpm
from product.encryption.tpm import Sealed, Tpm

KEY = bytes(range(32))


def test_the_tpm_gives_back_what_it_sealed(software_tpm: SoftwareTpm) -> None:
    tpm = software_tpm.tpm
    sealed = tpm.seal(KEY)
    assert KEY not in sealed.public + sealed.private
    assert tpm.unseal(Sealed.read(sealed.fields())) == KEY
    assert tpm.measured() == "0" * 64


def test_other_measurements_keep_it_back(software_tpm: SoftwareTpm) -> None:
    tpm = software_tpm.tpm
    sealed = tpm.seal(KEY)
    software_tpm.run(["tpm2", "pcrextend", f"4:sha256={'11' * 32}"])
    assert tpm.unseal(sealed) == KEY, "PCR 4, which an update changes, is not part of it"
    software_tpm.run(["tpm2", "pcrextend", f"7:sha256={'11' * 32}"])
    with pytest.raises(PolicyError, match="Secure Boot was switched"):
        tpm.unseal(sealed)


def test_another_tpm_cannot(software_tpm: SoftwareTpm) -> None:
    sealed = software_tpm.tpm.seal(KEY)
    software_tpm.clear()
    with pytest.raises(ForeignTpmError, match="another machine's disk, or the TPM was cleared"):
        software_tpm.tpm.unseal(sealed)


def test_a_machine_without_one() -> None:
    with pytest.raises(NoTpmError, match=r"this machine has no TPM 2\.0"):
        Tpm("/nonexistent").require(0.0)


@pytest.mark.parametrize("fields", [{}, {"public": "?", "private": 1, "pcrs": "sha256:7"}])
def test_a_damaged_token(fields: dict[str, object]) -> None:
    with pytest.raises(EncryptionError, match="damaged"):
        Sealed.read(fields)
