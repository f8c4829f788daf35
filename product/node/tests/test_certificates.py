"""The node's certificates, with real keys."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from base64 import b64decode
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from product.node import pki
from product.node.certificates import Outcome, ensure, known_identity
from product.node.errors import StorageError
from product.node.pki import DAY, Identity
from product.node.tests.conftest import FLOOR

HERE = Identity("node-1", "10.0.2.15")
NOW = FLOOR + 30 * DAY


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "pki"
    ensure(str(path), HERE, NOW, FLOOR)
    return path


def again(folder: Path, identity: Identity = HERE, now: float = NOW) -> Outcome:
    return ensure(str(folder), identity, now, FLOOR)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def changed(before: dict[str, bytes], folder: Path) -> set[str]:
    after = content(folder)
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def load(folder: Path, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / f"{name}.crt").read_bytes())


def assert_sound(folder: Path, identity: Identity = HERE, now: float = NOW) -> None:
    """Every certificate belongs to its key, comes from its authority and is valid now."""
    for leaf in pki.leaves(identity):
        found = load(folder, leaf.name)
        found.verify_directly_issued_by(load(folder, leaf.authority))
        key = load_pem_private_key((folder / f"{leaf.name}.key").read_bytes(), None)
        assert key.public_key() == found.public_key()
        assert found.not_valid_before_utc.timestamp() <= now < found.not_valid_after_utc.timestamp()


def test_a_first_boot_makes_everything(tmp_path: Path) -> None:
    outcome = ensure(str(tmp_path / "pki"), HERE, NOW, FLOOR)
    assert outcome == Outcome(("certificates for node-1",), ())
    assert_sound(tmp_path / "pki")
    names = {*pki.files(HERE), "index.json"}
    assert set(content(tmp_path / "pki")) == names


def test_nobody_but_root_reads_them(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        ensure(str(tmp_path / "pki"), HERE, NOW, FLOOR)
    finally:
        os.umask(old)
    for folder, _, files in os.walk(tmp_path / "pki"):
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
        for name in files:
            assert stat.S_IMODE(os.stat(f"{folder}/{name}").st_mode) == 0o600, name


def test_the_certificates_say_what_kubernetes_asks(folder: Path) -> None:
    server = load(folder, "apiserver")
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = {str(found) for found in names.get_values_for_type(x509.IPAddress)}
    assert addresses == {"10.96.0.1", "127.0.0.1", "10.0.2.15"}
    assert "kubernetes.default.svc" in names.get_values_for_type(x509.DNSName)
    assert "node-1" in names.get_values_for_type(x509.DNSName)
    kubelet = load(folder, "kubelet").subject.rfc4514_string()
    assert set(kubelet.split(",")) == {"CN=system:node:node-1", "O=system:nodes"}
    assert load(folder, "front-proxy").issuer == load(folder, "front-proxy-ca").subject
    key = load(folder, "admin").public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"


def test_the_administrators_kubeconfig_stands_alone(folder: Path) -> None:
    document = json.loads((folder / "admin.kubeconfig").read_bytes())
    user, cluster = document["users"][0]["user"], document["clusters"][0]["cluster"]
    assert cluster["server"] == "https://127.0.0.1:6443"
    authority = b64decode(cluster["certificate-authority-data"])
    assert authority == (folder / "ca.crt").read_bytes()
    assert b64decode(user["client-certificate-data"]) == (folder / "admin.crt").read_bytes()
    assert b64decode(user["client-key-data"]) == (folder / "admin.key").read_bytes()


def test_openssl_agrees(folder: Path) -> None:
    for leaf in pki.leaves(HERE):
        purpose = "sslserver" if leaf.server else "sslclient"
        subprocess.run(
            ["openssl", "verify", "-x509_strict", "-attime", str(NOW), "-purpose", purpose,
             "-CAfile", folder / f"{leaf.authority}.crt", folder / f"{leaf.name}.crt"],
            check=True,
        )  # fmt: skip


def test_a_second_boot_changes_nothing(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert again(folder) == Outcome()
    assert again(folder, now=NOW + 200 * DAY) == Outcome()
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_boot_with_nothing_to_do_is_cheap(folder: Path) -> None:
    script = (
        "import sys; from product.node.certificates import ensure\n"
        "from product.node.pki import Identity\n"
        f"here, folder = Identity('node-1', '10.0.2.15'), {str(folder)!r}\n"
        f"assert ensure(folder, here, {NOW}, {FLOOR})[0] == ()\n"
        "print([m for m in sys.modules if m.split('.')[0] in "
        "('cryptography', 'datetime', 'ipaddress', 'socket', 'dataclasses', 'subprocess')])"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", script], env={"PYTHONPATH": os.getcwd()}, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "[]\n"


def test_a_new_address_reaches_the_two_servers(folder: Path) -> None:
    before, moved = content(folder), Identity("node-1", "192.168.7.9")
    outcome = again(folder, moved)
    assert not outcome.problems
    servers = {f"{name}.{kind}" for name in ("apiserver", "kubelet") for kind in ("crt", "key")}
    assert changed(before, folder) == servers | {"index.json"}
    assert_sound(folder, moved)
    assert again(folder, moved) == Outcome()


def test_leaves_are_renewed_when_a_third_of_their_life_is_left(folder: Path) -> None:
    before, late = content(folder), NOW + 365 * DAY - 365 * DAY // 3
    assert again(folder, now=late - 60) == Outcome()
    outcome = again(folder, now=late + 60)
    assert not outcome.problems
    assert len(outcome.made) == len(pki.leaves(HERE))
    assert changed(before, folder).isdisjoint({"ca.crt", "ca.key", "service-account.key"})
    assert_sound(folder, now=late + 300 * DAY)


def test_a_node_that_was_off_for_years_starts_again(folder: Path) -> None:
    before, late = content(folder), NOW + 3 * 365 * DAY
    assert not again(folder, now=late).problems
    assert (folder / "ca.key").read_bytes() == before["ca.key"]
    assert_sound(folder, now=late)


def test_an_expired_authority_keeps_its_key(folder: Path) -> None:
    before, late = content(folder), NOW + 21 * 365 * DAY
    again(folder, now=late)
    assert (folder / "ca.key").read_bytes() == before["ca.key"]
    assert (folder / "ca.crt").read_bytes() != before["ca.crt"]
    assert_sound(folder, now=late)
    assert again(folder, now=late) == Outcome()


def test_an_authority_is_renewed_without_voiding_its_leaves(folder: Path) -> None:
    leaf = load(folder, "kubelet")
    (folder / "ca.crt").write_bytes(b"garbage")
    outcome = again(folder)
    assert any("ca.crt was damaged" in problem for problem in outcome.problems)
    leaf.verify_directly_issued_by(load(folder, "ca"))
    assert load(folder, "kubelet") == leaf


@pytest.mark.parametrize("name", [*pki.files(HERE), "index.json"])
@pytest.mark.parametrize("damage", ["garbage", "empty", "missing", "torn", "flipped"])
def test_any_one_damaged_file_is_mended(folder: Path, name: str, damage: str) -> None:
    path, before = folder / name, content(folder)
    data = path.read_bytes()
    match damage:
        case "missing":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case "torn":
            path.write_bytes(data[: len(data) // 2])
        case "flipped":
            path.write_bytes(data[:-60] + bytes([data[-60] ^ 1]) + data[-59:])
        case _:
            path.write_bytes(b"\xff\x00garbage" * 300)
    outcome = again(folder)
    assert_sound(folder)
    assert again(folder) == Outcome()
    # The authorities and the key that signs tokens outlive any one damaged file.
    for kept in ("ca.key", "front-proxy-ca.key", "service-account.key"):
        assert (folder / kept).read_bytes() == before[kept]
    if name in ("ca.key", "front-proxy-ca.key", "service-account.key"):
        assert any("its copy was put back" in problem for problem in outcome.problems)


def test_an_authority_lost_twice_is_replaced_with_all_under_it(folder: Path) -> None:
    before = content(folder)
    for place in (folder, folder / "kept"):
        (place / "ca.key").write_bytes(b"garbage")
    outcome = again(folder)
    assert "a new authority was made, and every certificate under it" in outcome.problems[0]
    assert_sound(folder)
    untouched = {"front-proxy-ca.crt", "front-proxy-ca.key", "front-proxy.crt", "front-proxy.key"}
    assert changed(before, folder).isdisjoint({*untouched, "service-account.key"})
    assert {"ca.crt", "ca.key", "kubelet.crt", "admin.kubeconfig"} <= changed(before, folder)
    (aside,) = folder.glob("aside-*")
    assert (aside / "ca.crt").read_bytes() == before["ca.crt"]
    assert (aside / "apiserver.key").read_bytes() == before["apiserver.key"]
    assert stat.S_IMODE((aside / "apiserver.key").stat().st_mode) == 0o600
    assert again(folder) == Outcome()


def test_a_lost_token_key_is_said(folder: Path) -> None:
    for place in (folder, folder / "kept"):
        (place / "service-account.key").unlink()
    assert "tokens that pods hold are void" in again(folder).problems[0]
    assert again(folder) == Outcome()


def test_a_foreign_pair_is_replaced(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    ensure(str(other), HERE, NOW, FLOOR)
    for kind in ("crt", "key"):
        (folder / f"admin.{kind}").write_bytes((other / f"admin.{kind}").read_bytes())
    again(folder)
    assert_sound(folder)


def test_a_clock_at_1970_makes_certificates_that_hold_later(tmp_path: Path) -> None:
    """Stage 70 sets such a clock to the build date; even without it nothing is amiss."""
    for begin in (0.0, float(FLOOR)):
        folder = tmp_path / str(begin)
        ensure(str(folder), HERE, begin, FLOOR)
        assert_sound(folder, now=begin)
        again(folder)
        assert_sound(folder)


def test_a_clock_in_the_future_is_survived(tmp_path: Path) -> None:
    folder = tmp_path / "pki"
    ensure(str(folder), HERE, NOW + 70 * 365 * DAY, FLOOR)
    assert again(folder) == Outcome()
    assert_sound(folder)


def test_a_clock_that_went_back_is_survived(folder: Path) -> None:
    again(folder, now=float(FLOOR) - 400 * DAY)
    assert_sound(folder, now=float(FLOOR) - 400 * DAY)


class CutError(Exception):
    """The power failed."""


class Renames:
    """os.replace that works ``left`` times."""

    def __init__(self, left: int) -> None:
        self.left = left
        self._real = os.replace

    def __call__(self, source: str, target: str) -> None:
        if not self.left:
            raise CutError
        self.left -= 1
        self._real(source, target)


@pytest.mark.parametrize("first", [True, False])
def test_a_cut_of_power_anywhere_is_mended(tmp_path: Path, first: bool) -> None:
    """Each rename may be the last thing that happened, at the first boot or in a renewal."""
    now = NOW if first else NOW + 300 * DAY
    for cut in range(100):
        folder = tmp_path / str(cut)
        if not first:
            ensure(str(folder), HERE, NOW, FLOOR)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "replace", Renames(cut))
            try:
                ensure(str(folder), HERE, now, FLOOR)
            except CutError:
                finished = False
            else:
                finished = True
        outcome = again(folder, now=now)
        assert not any("authority" in problem for problem in outcome.problems)
        assert not first or not outcome.problems
        assert_sound(folder, now=now)
        if finished:
            break
    assert cut > 15


def test_a_full_disk_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device") as caught:
        ensure(str(tmp_path / "pki"), HERE, NOW, FLOOR)
    assert caught.value.hint
    monkeypatch.undo()
    assert again(tmp_path / "pki").problems == ()
    assert_sound(tmp_path / "pki")


def test_the_name_survives_a_damaged_index(folder: Path) -> None:
    (folder / "index.json").write_text("{")
    assert known_identity(str(folder)) == HERE
    for garbage in ("[]", '{"schema": 1}', '{"schema": 2}', "[" * 100000):
        (folder / "index.json").write_text(garbage)
        assert known_identity(str(folder)) == HERE
        again(folder)
        assert_sound(folder)
