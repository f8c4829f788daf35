"""The keys of a volume, on a real LUKS header."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from product.encryption import boot, cli, recovery
from product.encryption.errors import EncryptionError, KeyRefusedError, NoStickError
from product.encryption.keys import Keys
from product.encryption.luks import Volume, is_luks
from product.encryption.stick import Sticks
from product.encryption.tests.conftest import SoftwareTpm
from product.encryption.wish import Kind


class Pocket(Sticks):
    """A stick as a folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.plugged = True

    def wait(self, seconds: float = 0.0) -> str:
        if not self.plugged:
            raise NoStickError("no stick labelled KSOLOKEY is plugged in")
        return "/dev/sdz"

    def read(self, uuid: str, seconds: float = 0.0) -> bytes:
        self.wait()
        return (self.folder / f"{uuid}.key").read_bytes()

    def write(self, uuid: str, key: bytes, seconds: float = 0.0) -> None:
        self.wait()
        (self.folder / f"{uuid}.key").write_bytes(key)


class Opened(Volume):
    """A volume whose opening is a test of the key: without root there is no device mapper."""

    def open(self, key: bytes) -> None:
        self.require(key)


@pytest.fixture
def keys(volume: Volume, software_tpm: SoftwareTpm, tmp_path: Path) -> Keys:
    tpm = software_tpm.tpm
    tpm.require = lambda seconds=0.0: None  # type: ignore[method-assign]
    return Keys(Opened(volume.device, volume._run), tpm, Pocket(tmp_path))


def unlock(keys: Keys, *typed: str) -> tuple[bool, list[tuple[str, str]]]:
    told: list[tuple[str, str]] = []
    return boot.unlock(keys, lambda kind, text: told.append((kind, text)), iter(typed)), told


def shown(told: list[tuple[str, str]]) -> str:
    (text,) = [text for kind, text in told if kind == "show"]
    return text.rpartition(" ")[2]


def test_a_volume_opens_by_its_tpm_and_shows_a_recovery_key_once(keys: Keys) -> None:
    keys.format(Kind.TPM)
    assert is_luks(keys.volume.device)
    done, told = unlock(keys)
    assert done
    assert ("opened", "tpm") in told
    keys.volume.require(shown(told).encode())
    done, told = unlock(keys)
    assert done
    assert [kind for kind, _ in told] == ["say", "opened"]


def test_a_cut_before_the_recovery_key_was_written_down_makes_another(keys: Keys) -> None:
    keys.format(Kind.TPM)

    def cut(text: str) -> None:
        raise KeyboardInterrupt

    (token,) = keys.of(Kind.TPM)
    with pytest.raises(KeyboardInterrupt):
        keys.new_recovery(keys.key_of(Kind.TPM, token), cut)
    done, told = unlock(keys)
    assert done
    keys.volume.require(shown(told).encode())


def test_another_tpm_leaves_the_recovery_key(keys: Keys, software_tpm: SoftwareTpm) -> None:
    keys.format(Kind.TPM)
    key = shown(unlock(keys)[1])
    software_tpm.clear()
    stranger = Keys(keys.volume, software_tpm.tpm, keys.sticks)
    stranger.tpm.require = lambda seconds=0.0: None  # type: ignore[method-assign]
    done, told = unlock(stranger, "no key", "c" * 64, key.replace("-", " ").upper())
    assert done, told
    texts = [text for _, text in told]
    assert told[0][0] == "problem"
    assert "another machine's disk" in texts[0]
    assert any("has no" in text for text in texts)
    assert any("not its recovery" in text for text in texts)
    assert texts[-1].endswith("kubesolo-data enroll tpm")
    stranger.enroll(Kind.TPM, key.encode())
    assert len(stranger.of(Kind.TPM)) == 1
    assert len(stranger.volume.slots()) == 2
    assert unlock(stranger)[1][-1] == ("opened", "tpm")


def test_nobody_comes(keys: Keys) -> None:
    keys.format(Kind.USB)
    keys.sticks.plugged = False  # type: ignore[attr-defined]
    done, told = unlock(keys)
    assert not done
    assert [kind for kind, _ in told] == ["problem", "say"]


def test_a_stick_opens_it_and_a_new_key_replaces_the_old_one(keys: Keys, tmp_path: Path) -> None:
    old = keys.format(Kind.USB)
    assert unlock(keys)[1][1] == ("opened", "usb")
    keys.enroll(Kind.USB, old)
    with pytest.raises(KeyRefusedError):
        keys.volume.require(old)
    assert unlock(keys)[1][-1] == ("opened", "usb")


def test_no_place_for_the_key_and_nothing_is_written(keys: Keys) -> None:
    keys.sticks.plugged = False  # type: ignore[attr-defined]
    with pytest.raises(NoStickError):
        keys.format(Kind.USB)
    assert not is_luks(keys.volume.device)


def test_the_last_key_stays(keys: Keys) -> None:
    keys.format(Kind.TPM)
    with pytest.raises(EncryptionError, match="the tpm key is the only one"):
        keys.remove(Kind.TPM)
    unlock(keys)
    keys.remove(Kind.TPM)
    assert not keys.of(Kind.TPM)
    with pytest.raises(EncryptionError, match="no key of the kind tpm"):
        keys.remove(Kind.TPM)


@pytest.fixture
def node(keys: Keys, tmp_path: Path) -> Callable[..., cli.Node]:
    root = tmp_path / "root"
    (root / "run/kubesolo").mkdir(parents=True)
    (root / "dev").mkdir()
    (root / "dev/vda4").symlink_to(keys.volume.device)
    early = "slot=A\nKSOLODATA=/dev/vda4\nunlocked=tpm\nKSOLOCRYPT=/dev/vda4\n"
    (root / "run/kubesolo/early").write_text(early)
    return lambda typed="": cli.Node(str(root), lambda device: keys, lambda: typed)


def test_the_operators_program(
    node: Callable[..., cli.Node], keys: Keys, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["status"], node()) == 0
    assert "not encrypted" in capsys.readouterr().out
    assert cli.main(["enroll", "tpm"], node()) == 1
    assert "flash --encrypt" in capsys.readouterr().err
    keys.format(Kind.TPM)
    assert cli.main(["recovery-key", "new"], node()) == 0
    key = capsys.readouterr().out.strip()
    keys.volume.require(recovery.parse(key).encode())
    assert cli.main(["enroll", "usb"], node()) == 0
    assert cli.main(["remove", "tpm"], node()) == 0
    capsys.readouterr()
    assert cli.main(["status", "--json"], node()) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["encrypted"], found["keys"]) == (True, ["usb", "recovery"])
    assert found["tpm"] == "present, and the firmware uses no PCR 7"
    # Nothing at hand: the recovery key is asked for, and a wrong one changes nothing.
    keys.sticks.plugged = False  # type: ignore[attr-defined]
    assert cli.main(["enroll", "tpm"], node("c" * 64)) == 1
    assert cli.main(["enroll", "tpm"], node("short")) == 1
    assert "a recovery key has no" in capsys.readouterr().err
    assert cli.main(["enroll", "tpm"], node(key)) == 0
    assert cli.main(["enroll", "disk"], node()) == 2
