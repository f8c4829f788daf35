"""Which releases the node trusts, against real repositories and a server that may lie."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from securesystemslib.signer._key import Key
from tuf.api._payload import DelegatedRole, Delegations, MetaFile, Targets
from tuf.api.metadata import Metadata

from product.agent.config import Config
from product.agent.errors import AgentError
from product.agent.sources.artifact import fetch_artifact
from product.agent.sources.configured import configured_source
from product.agent.sources.protocol import FetchPolicy
from product.agent.system.files import write_atomic
from product.agent.tests import support_http as http
from product.agent.trust import client as trust
from product.agent.trust import pin
from product.release.keys import KeyDirectory
from product.release.marks import Marks
from product.release.repository import Overrides, Repository
from product.release.state import State
from product.release.tests.slotfiles import make_slot
from product.terms import Terms

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
# Without the waits of the real thing.
POLICY = FetchPolicy(tries=3, first_wait=0.001, longest_wait=0.002, silence=5.0)


class Publisher:
    """A repository with its keys, whose clock the test sets."""

    def __init__(self, base: Path, *, online_keys: Path | None = None) -> None:
        self.base = base
        self.now = NOW - timedelta(days=1)
        self.directory = base / "repository"
        self.keys = KeyDirectory.generate(base / "keys")
        if online_keys is not None:
            for role in ("targets", "snapshot", "timestamp"):
                shutil.copy(online_keys / f"{role}.pem", base / "keys")
        self.repository = Repository.create(
            self.directory, self.keys, clock=lambda: self.now, clock_is_right=True
        )
        self.pubkey = base / "pin.pem"
        self.pubkey.write_bytes(self.keys.public_pem("root"))

    def publish(
        self,
        version: str,
        architecture: str = "x86_64",
        *,
        terms: Terms | None = None,
        **chosen: Any,
    ) -> None:
        slot = self.base / f"slot-{version}-{architecture}"
        if not slot.exists():
            make_slot(slot, version, architecture)
        overrides = Overrides(**chosen)
        self.repository.publish(
            slot,
            channel="stable",
            notes=f"notes of {version}",
            min_compatible_version="0.1.0",
            terms=terms,
            overrides=overrides,
        )


class NodeSide:
    """What the node has: configuration, store, clock."""

    def __init__(self, base: Path, server: http.Server, pubkey: Path) -> None:
        self.store = base / "metadata"
        self.release_file = base / "release.json"
        self.known_time = base / "known"
        self.config = Config(server=server.url, pubkey=str(pubkey))
        self.now = NOW

    def find(self, architecture: str = "x86_64") -> trust.TrustedRelease:
        with configured_source(self.config, POLICY) as source:
            return trust.find_release(
                source,
                self.config,
                architecture=architecture,
                metadata_dir=str(self.store),
                now=self.now,
                release_file=str(self.release_file),
                known_time=str(self.known_time),
                policy=POLICY,
            )

    def refusal(self) -> AgentError:
        with pytest.raises(AgentError) as caught:
            self.find()
        return caught.value


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    made = Publisher(tmp_path / "publisher")
    made.publish("0.2.0")
    return made


@pytest.fixture
def server(publisher: Publisher) -> Iterator[http.Server]:
    with http.serve(publisher.directory) as running:
        yield running


@pytest.fixture
def node(tmp_path: Path, server: http.Server, publisher: Publisher) -> NodeSide:
    return NodeSide(tmp_path, server, publisher.pubkey)


def test_a_release_is_found_with_every_signed_field(
    node: NodeSide, publisher: Publisher, tmp_path: Path
) -> None:
    release = node.find()
    assert release.version == release.manifest.version == "0.2.0"
    assert (release.channel, release.architecture) == ("stable", "x86_64")
    assert (release.min_compatible_version, release.notes) == ("0.1.0", "notes of 0.2.0")
    assert release.release_date == "2026-11-20T12:00:00Z"
    slot = publisher.base / "slot-0.2.0-x86_64"
    assert release.manifest_bytes == (slot / "manifest.json").read_bytes()
    for artifact in release.manifest.artifacts:
        with configured_source(node.config) as source:
            fetch_artifact(source, artifact, str(tmp_path / artifact.name))
        assert (tmp_path / artifact.name).read_bytes() == (slot / artifact.name).read_bytes()


def test_the_signed_terms_are_found(node: NodeSide, publisher: Publisher) -> None:
    assert node.find().terms == Terms()
    terms = Terms(True, True, 25, NOW, "it reboots too often")
    publisher.publish("0.3.0", terms=terms)
    assert node.find().terms == terms


def test_a_newer_release_and_the_same_again_are_found(node: NodeSide, publisher: Publisher) -> None:
    assert node.find().version == "0.2.0"
    assert node.find().version == "0.2.0"
    publisher.publish("0.3.0")
    assert node.find().version == "0.3.0"


def test_a_release_for_another_architecture_is_left_to_the_gate(
    node: NodeSide, publisher: Publisher
) -> None:
    publisher.publish("0.3.0", "aarch64", architecture_path="x86_64")
    assert node.find().architecture == "aarch64"


def test_a_downgrade_is_left_to_the_gate(node: NodeSide, publisher: Publisher) -> None:
    node.find()
    publisher.publish("0.1.5", terms=Terms(allow_downgrade=True))
    assert node.find().version == "0.1.5"


def test_no_release_names_channel_and_architecture(node: NodeSide) -> None:
    node.config = node.config._replace(channel="beta")
    error = node.refusal()
    assert error.code == "no-release"
    assert "'beta' for x86_64" in error.message


# Who signed.


def test_a_repository_of_other_keys_is_refused_and_nothing_is_kept(
    node: NodeSide, tmp_path: Path
) -> None:
    other = KeyDirectory.generate(tmp_path / "other")
    pin = tmp_path / "other.pem"
    pin.write_bytes(other.public_pem("root"))
    node.config = node.config._replace(pubkey=str(pin))
    assert node.refusal().code == "untrusted-signature"
    assert list(node.store.iterdir()) == []


def test_one_of_several_pinned_keys_suffices(
    node: NodeSide, publisher: Publisher, tmp_path: Path
) -> None:
    other = KeyDirectory.generate(tmp_path / "other")
    both = b"# a comment\n" + other.public_pem("root") + publisher.keys.public_pem("root")
    publisher.pubkey.write_bytes(both)
    assert node.find().version == "0.2.0"


def test_a_pinned_key_of_another_role_signs_no_root(node: NodeSide, publisher: Publisher) -> None:
    publisher.pubkey.write_bytes(publisher.keys.public_pem("targets"))
    assert node.refusal().code == "untrusted-signature"


def test_a_first_root_below_its_own_threshold_is_refused(tmp_path: Path) -> None:
    base = tmp_path / "p"
    keys = KeyDirectory.generate(base / "keys", {"root": 2})
    Repository.create(base / "r", keys, thresholds={"root": 2}, clock=lambda: NOW)
    root = base / "r/metadata/1.root.json"
    document = json.loads(root.read_text())
    pin = base / "pin.pem"
    pin.write_bytes(keys.public_pem("root"))
    with http.serve(base / "r") as server:
        node = NodeSide(tmp_path, server, pin)
        assert node.refusal().code == "no-release"
        shutil.rmtree(node.store)
        document["signatures"].pop()
        root.write_text(json.dumps(document))
        assert node.refusal().code == "untrusted-signature"
        assert list(node.store.iterdir()) == []


def test_metadata_signed_by_somebody_else_is_refused(
    node: NodeSide, publisher: Publisher, server: http.Server, tmp_path: Path
) -> None:
    node.find()
    thief = Publisher(tmp_path / "thief")
    for _ in range(5):
        thief.publish("9.9.9")
    server.directory = thief.directory
    assert node.refusal().code == "untrusted-signature"


def test_an_attackers_own_root_does_not_follow_a_trusted_one(
    node: NodeSide, publisher: Publisher, server: http.Server, tmp_path: Path
) -> None:
    node.find()
    thief = Publisher(tmp_path / "thief")
    thief.repository.rotate("root")
    server.directory = thief.directory
    assert node.refusal().code == "untrusted-signature"


def test_rotated_keys_are_followed_and_retired_ones_refused(
    node: NodeSide, publisher: Publisher
) -> None:
    node.find()
    for role in ("timestamp", "snapshot", "targets", "root"):
        publisher.repository.rotate(role)
        assert node.find().version == "0.2.0"
    publisher.publish("0.3.0")
    assert node.find().version == "0.3.0"


def test_a_new_node_may_pin_the_key_that_rotation_brought(
    node: NodeSide, publisher: Publisher
) -> None:
    publisher.repository.rotate("root")
    publisher.pubkey.write_bytes(publisher.keys.public_pem("root"))
    assert node.find().version == "0.2.0"


def test_taking_a_key_out_of_the_pin_withdraws_its_trust(
    node: NodeSide, publisher: Publisher, tmp_path: Path
) -> None:
    node.find()
    other = Publisher(tmp_path / "other")
    publisher.pubkey.write_bytes(other.pubkey.read_bytes())
    assert node.refusal().code == "untrusted-signature"


def test_another_publisher_starts_from_nothing(
    node: NodeSide, publisher: Publisher, server: http.Server, tmp_path: Path
) -> None:
    for _ in range(3):
        publisher.publish("0.2.0")
    node.find()
    # Even one that signs with the same keys below its root.
    other = Publisher(tmp_path / "other", online_keys=publisher.keys.path)
    other.publish("0.4.0")
    server.directory = other.directory
    publisher.pubkey.write_bytes(other.pubkey.read_bytes())
    assert node.find().version == "0.4.0"


# How old.


def test_expired_metadata_is_refused_with_the_clock(node: NodeSide, publisher: Publisher) -> None:
    publisher.publish("0.3.0", expires=NOW - timedelta(hours=1))
    error = node.refusal()
    assert error.code == "expired"
    assert "2026-11-21T12:00:00Z" in error.message
    publisher.repository.refresh(roles=["targets"])
    assert node.find().version == "0.3.0"


def test_each_roles_expiry_counts(node: NodeSide, publisher: Publisher) -> None:
    for role in ("timestamp", "snapshot", "targets", "root"):
        publisher.repository.refresh(roles=[role], expires=NOW)
        assert node.refusal().code == "expired", role
        publisher.repository.refresh(roles=["root", "targets"])
        assert node.find().version == "0.2.0"


def test_a_clock_before_the_images_build_does_not_revive_the_expired(
    node: NodeSide, publisher: Publisher
) -> None:
    publisher.publish("0.3.0", expires=NOW - timedelta(hours=1))
    node.now = datetime(1970, 1, 1, tzinfo=UTC)
    assert node.find().version == "0.3.0"  # nothing here says that the clock is wrong
    shutil.rmtree(node.store)
    node.release_file.write_text(json.dumps({"source_date": int(NOW.timestamp())}))
    assert node.refusal().code == "expired"


def test_a_clock_before_the_newest_signing_does_not_revive_the_expired(
    node: NodeSide, publisher: Publisher
) -> None:
    publisher.now = NOW - timedelta(days=40)
    publisher.publish("0.3.0")
    node.now = datetime(1970, 1, 1, tzinfo=UTC)
    assert node.find().version == "0.3.0"
    publisher.now = NOW
    # Only the timestamp is fresh; its date shows that the snapshot ended ten days ago.
    publisher.repository.refresh(roles=["timestamp"])
    assert node.refusal().code == "expired"
    publisher.repository.refresh()
    assert node.find().version == "0.3.0"


def test_a_publisher_whose_clock_ran_ahead_once_locks_nobody_out(
    node: NodeSide, publisher: Publisher
) -> None:
    publisher.now = NOW + timedelta(days=60)
    publisher.repository.refresh()
    assert node.find().version == "0.2.0"
    publisher.now = NOW
    publisher.publish("0.3.0")
    assert node.find().version == "0.3.0"
    # What the corrected timestamp proves counts.
    node.now = datetime(1970, 1, 1, tzinfo=UTC)
    publisher.repository.refresh(roles=["targets"], expires=NOW - timedelta(hours=1))
    assert node.refusal().code == "expired"


@pytest.mark.parametrize(
    ("known", "code"),
    [
        ("{now} synchronised", "expired"),
        # A clock that nobody set right proves nothing, and a damaged file neither.
        ("{now} clock", None),
        ("{now}", None),
        ("99999999999999999999 synchronised", None),
        ("", None),
    ],
)
def test_a_clock_before_what_the_node_last_knew_does_not_revive_the_expired(
    node: NodeSide, publisher: Publisher, known: str, code: str | None
) -> None:
    publisher.publish("0.3.0", expires=NOW - timedelta(hours=1))
    node.now = datetime(1970, 1, 1, tzinfo=UTC)
    node.known_time.write_text(known.format(now=int(NOW.timestamp())) + "\n")
    if code is None:
        assert node.find().version == "0.3.0"
    else:
        assert node.refusal().code == code


def test_a_wrong_clock_alone_keeps_nobody_from_updating(node: NodeSide) -> None:
    node.now = datetime(1970, 1, 1, tzinfo=UTC)
    node.release_file.write_text(json.dumps({"source_date": int(NOW.timestamp())}))
    assert node.find().version == "0.2.0"


def test_replayed_old_metadata_is_refused(
    node: NodeSide, publisher: Publisher, server: http.Server, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    shutil.copytree(publisher.directory, old)
    publisher.publish("0.3.0")
    assert node.find().version == "0.3.0"
    server.directory = old
    assert node.refusal().code == "metadata-rollback"


def test_a_publisher_restored_from_a_backup_is_followed(
    node: NodeSide, publisher: Publisher, tmp_path: Path
) -> None:
    marks = Marks(publisher.keys.path)
    for number in range(3):
        opened = Repository.open(
            publisher.directory, publisher.keys, clock=lambda: NOW, marks=marks
        )
        if number == 1:
            shutil.copytree(publisher.directory, tmp_path / "backup")
        opened.publish(publisher.base / "slot-0.2.0-x86_64", channel="stable")
        assert node.find().version == "0.2.0"
    shutil.rmtree(publisher.directory)
    (tmp_path / "backup").rename(publisher.directory)
    # Within a day of the newest it may be a cache that is behind; later it is an attack.
    assert node.refusal().code == "metadata-stale"
    opened = Repository.open(publisher.directory, publisher.keys, clock=lambda: NOW, marks=marks)
    opened.publish(make_slot(tmp_path / "slot", "0.3.0"), channel="stable")
    assert node.find().version == "0.3.0"


def test_replay_is_refused_even_after_the_stored_root_was_torn(
    node: NodeSide, publisher: Publisher, server: http.Server, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    shutil.copytree(publisher.directory, old)
    publisher.publish("0.3.0")
    node.find()
    (node.store / "root.json").write_bytes(b"")
    server.directory = old
    assert node.refusal().code == "metadata-rollback"


@pytest.mark.parametrize(
    "name", ["anchor.json", "root.json", "timestamp.json", "snapshot.json", "targets.json"]
)
@pytest.mark.parametrize("content", [None, b"", b"\0" * 4096, b"{}", b"[" * 100_000])
def test_damage_to_the_store_heals(node: NodeSide, name: str, content: bytes | None) -> None:
    node.find()
    if content is None:
        (node.store / name).unlink()
    else:
        (node.store / name).write_bytes(content)
    assert node.find().version == "0.2.0"


def test_what_is_kept_is_written_atomically_and_synced(
    node: NodeSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []

    def record(path: str, data: bytes, *, mode: int) -> None:
        written.append(Path(path).name)
        write_atomic(path, data, mode=mode)

    for module in (trust, pin):
        monkeypatch.setattr(module, "write_atomic", record)
    node.find()
    assert written == ["root.json", "anchor.json", "timestamp.json", "snapshot.json",
                       "targets.json"]  # fmt: skip
    assert sorted(path.name for path in node.store.iterdir()) == sorted(written)


# What the server does.


@pytest.mark.parametrize(
    ("path", "behaviour", "code"),
    [
        pytest.param("timestamp.json", http.tampered, "bad-metadata", id="torn JSON"),
        pytest.param("2.snapshot.json", http.tampered, "digest-mismatch", id="tampered snapshot"),
        pytest.param("2.targets.json", http.tampered, "digest-mismatch", id="tampered targets"),
        pytest.param("manifest.json", http.tampered, "digest-mismatch", id="tampered manifest"),
        pytest.param("manifest.json", http.replaced(b"x"), "size-mismatch", id="short manifest"),
        pytest.param("1.root.json", http.endless, "size-mismatch", id="endless root"),
        pytest.param("timestamp.json", http.endless, "size-mismatch", id="endless timestamp"),
        pytest.param("manifest.json", http.endless, "size-mismatch", id="endless manifest"),
        pytest.param(
            "", http.replaced(b"<html>log in</html>", "text/html"), "captive-portal", id="portal"
        ),
        pytest.param(
            "1.root.json", http.replaced(b"[" * 100_000), "bad-metadata", id="deep nesting"
        ),
        pytest.param("1.root.json", http.replaced(b"{}"), "bad-metadata", id="empty object"),
        pytest.param("1.root.json", http.status(404), "server-unreachable", id="no repository"),
        pytest.param("timestamp.json", http.status(404), "server-unreachable", id="no timestamp"),
        pytest.param("2.root.json", http.status(500), "server-unreachable", id="500"),
        pytest.param("manifest.json", http.cut_after(9), "server-unreachable", id="cut"),
        pytest.param("", http.redirect("file:///etc/hostname"), "bad-redirect", id="to file"),
    ],
)
def test_lies_of_the_server_have_names(
    node: NodeSide, server: http.Server, path: str, behaviour: http.Behaviour, code: str
) -> None:
    server.misbehave(path.replace(".", r"\."), behaviour)
    assert node.refusal().code == code
    server.misbehaviours.clear()
    assert node.find().version == "0.2.0"


def test_an_unreachable_server_is_named(node: NodeSide) -> None:
    node.config = node.config._replace(server="http://127.0.0.1:1/releases")
    error = node.refusal()
    assert error.code == "server-unreachable"
    assert "127.0.0.1:1" in error.message


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("channel", "beta"),
        ("version", "9.9.9"),
        ("architecture", "aarch64"),
        ("notes", 7),
        ("rollout", "all"),
        ("paused", 1),
        ("allow_downgrade", "yes"),
    ],
)
def test_signed_fields_that_contradict_the_manifest_are_refused(
    node: NodeSide,
    publisher: Publisher,
    monkeypatch: pytest.MonkeyPatch,
    field: str,
    value: object,
) -> None:
    real = Repository._write

    def contradict(repository: Repository, current: State, *rest: Any) -> None:
        for target in current.targets.targets.values():
            target.custom[field] = value
        real(repository, current, *rest)

    # A publisher of another make, whose signed fields say something else than manifest and path.
    monkeypatch.setattr(Repository, "_write", contradict)
    publisher.publish("0.3.0")
    error = node.refusal()
    assert error.code == "bad-metadata"
    assert field in error.message
    assert repr(value) in error.message


# What the node's owner does.


def pem(key: EllipticCurvePublicKey | X25519PublicKey) -> bytes:
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot read"),
        (b"", "no public key"),
        (b"ssh-ed25519 AAAA\n", "no public key"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "malformed"),
        (pem(generate_private_key(SECP256R1()).public_key()), "not Ed25519"),
        # As long as an Ed25519 key.
        (pem(X25519PrivateKey.generate().public_key()), "not Ed25519"),
        (b"x" * 100_000, "larger than"),
    ],
)
def test_an_unusable_pin_is_refused_by_name(
    node: NodeSide, publisher: Publisher, content: bytes | None, words: str
) -> None:
    if content is None:
        publisher.pubkey.unlink()
    else:
        publisher.pubkey.write_bytes(content)
    error = node.refusal()
    assert error.code == "no-pubkey"
    assert words in error.message


def test_no_pin_and_no_server_have_their_own_codes(node: NodeSide) -> None:
    config = node.config
    node.config = config._replace(pubkey=None)
    assert node.refusal().code == "no-pubkey"
    node.config = config._replace(server=None)
    assert node.refusal().code == "no-server"


def test_importing_the_modules_brings_no_library_in() -> None:
    code = (
        "import sys, product.agent.trust.client, product.agent.sources.configured, "
        "product.agent.sources.artifact, product.agent.sources.http, product.agent.sources.volume, "
        "product.agent.sources.oci, product.agent.net.challenge; "
        "costly = ('tuf', 'urllib3', 'cryptography', 'requests', 'pathlib'); "
        "print([module for module in costly if module in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout.strip() == "[]"


# What nobody asked for.


@pytest.mark.parametrize("name", ["../state", "../../escaped", "anchor", "?", "x" * 300])
def test_a_delegated_role_is_not_followed_and_writes_nothing(
    node: NodeSide,
    publisher: Publisher,
    server: http.Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    node.find()
    anchor = (node.store / "anchor.json").read_bytes()
    delegate(publisher, monkeypatch, name)
    outside = sorted(path for path in tmp_path.rglob("*") if publisher.base not in path.parents)
    # What lies in the top-level targets is found, whatever is delegated beside it.
    assert node.find().version == "0.2.0"
    node.config = node.config._replace(channel="beta")
    error = node.refusal()
    assert error.code == "delegated"
    assert repr(name[:64]) in error.message
    assert sorted(p for p in tmp_path.rglob("*") if publisher.base not in p.parents) == outside
    assert (node.store / "anchor.json").read_bytes() == anchor


def delegate(publisher: Publisher, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Sign targets that leave everything to a role, and serve that role under every spelling."""
    real = Repository._write
    (signer,) = publisher.keys.signers("targets")
    role = Targets(version=1, expires=NOW + timedelta(days=9))
    data = Metadata(role)
    data.sign(signer)

    def delegating(repository: Repository, current: State, *rest: Any) -> None:
        delegated = DelegatedRole(name, [signer.public_key.keyid], 1, False, ["*/*/*"])
        keys: dict[str, Key] = {signer.public_key.keyid: signer.public_key}
        current.targets.delegations = Delegations(keys, {name: delegated})
        current.snapshot.meta[f"{name}.json"] = MetaFile(1)
        real(repository, current, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Repository, "_write", delegating)
        publisher.publish("0.2.0")
    quoted = quote(f"1.{name}.json", safe="")
    if len(quoted) < 255:
        (publisher.directory / "metadata" / quoted).write_bytes(data.to_bytes())


def test_what_is_delegated_is_kept_nowhere(node: NodeSide, tmp_path: Path) -> None:
    """Should a later tuf follow delegations after all."""
    from tuf.api.exceptions import RepositoryError

    node.find()
    nobody: Any = object()
    updater = trust._new_updater(str(node.store), nobody, NOW)
    with pytest.raises(RepositoryError, match="nobody follows"):
        updater._persist_metadata("../state", b"{}")
    assert not (tmp_path / "state.json").exists()


def test_a_root_of_a_high_version_can_be_pinned(node: NodeSide, publisher: Publisher) -> None:
    for _ in range(68):
        publisher.repository.refresh(roles=["root"])
    publisher.repository.rotate("root")
    publisher.pubkey.write_bytes(publisher.keys.public_pem("root"))
    assert node.find().version == "0.2.0"
    assert json.loads((node.store / "anchor.json").read_text())["signed"]["version"] == 70


def test_endless_roots_end(
    node: NodeSide, publisher: Publisher, server: http.Server, tmp_path: Path
) -> None:
    """A server that has ever another root by keys that nobody pinned."""
    thief = Publisher(tmp_path / "thief")
    first = (thief.directory / "metadata/1.root.json").read_bytes()
    padded = first + b" " * (500_000 - len(first))
    server.misbehave(r"[0-9]+\.root\.json", http.replaced(padded))
    assert node.refusal().code == "size-mismatch"
    asked = [path for path, _ in server.seen if "root.json" in path]
    assert len(asked) < 50
