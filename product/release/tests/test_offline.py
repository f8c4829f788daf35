"""A root whose keys are elsewhere: what is exported, who signs, and what is not merged."""

from __future__ import annotations

import functools
import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from product.release.errors import KeyFileError, RepositoryError
from product.release.keys import KeyDirectory
from product.release.offline import describe_root, export_root, inspect_root, merge_root, sign_root
from product.release.repository import Repository
from product.release.tests.slotfiles import make_slot
from product.release.tests.test_repository import replaces, tree
from product.release.verify import verify

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
ONLINE = ("targets", "snapshot", "timestamp")


class Publisher:
    """Online keys in one directory, root keys on three sticks, two of which must sign."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.now = NOW
        self.sticks = [self.stick(number) for number in (1, 2, 3)]
        self.keys = KeyDirectory.generate(base / "keys", {"root": 0})
        Repository.create(
            base / "repository",
            KeyDirectory(base / "keys", also=[stick.path for stick in self.sticks]),
            thresholds={"root": 2},
            clock=lambda: self.now,
        )
        self.open().publish(make_slot(base / "slot", "0.2.0"), channel="stable")
        self.file = base / "next.json"

    def stick(self, number: int) -> KeyDirectory:
        counts = {"root": 1, **dict.fromkeys(ONLINE, 0)}
        return KeyDirectory.generate(self.base / f"stick-{number}", counts)

    def open(self, directory: Path | None = None) -> Repository:
        return Repository.open(
            directory or self.base / "repository", self.keys, clock=lambda: self.now
        )

    def problems(self) -> tuple[str, ...]:
        return verify(self.base / "repository", now=self.now).problems


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    return Publisher(tmp_path)


def public(keys: KeyDirectory, role: str = "root") -> Path:
    return keys.path / f"{role}.pub.pem"


def test_the_end_is_renewed_by_as_many_as_must_sign(publisher: Publisher) -> None:
    publisher.now = NOW + timedelta(days=20)
    repository = publisher.open()
    before = repository.read().root
    assert export_root(repository, publisher.file) == 2
    assert sign_root(publisher.file, publisher.sticks[0]) == tuple(
        signer.public_key.keyid for signer in publisher.sticks[0].signers("root")
    )
    found = inspect_root(repository, publisher.file)
    assert (found.version, found.lacking_former, found.lacking_own) == (2, 1, 1)
    with pytest.raises(RepositoryError, match="lacks 1 signatures that the former root asks for"):
        merge_root(repository, publisher.file)
    sign_root(publisher.file, publisher.sticks[0])  # again, which changes nothing
    assert inspect_root(repository, publisher.file) == found
    sign_root(publisher.file, publisher.sticks[2])
    assert merge_root(repository, publisher.file) == 2
    after = publisher.open().read().root
    assert after.expires == before.expires + timedelta(days=20)
    assert after.roles == before.roles
    assert publisher.problems() == ()
    with pytest.raises(RepositoryError, match=r"is root version 2, and .* is at 2"):
        merge_root(repository, publisher.file)


def test_a_new_key_alone_does_not_take_over(publisher: Publisher) -> None:
    """Who adds his own keys needs the signatures of those whose root it is."""
    repository = publisher.open()
    thieves = [publisher.stick(number) for number in (8, 9)]
    export_root(
        repository,
        publisher.file,
        add={"root": [public(thief) for thief in thieves]},
        remove=[public(stick) for stick in publisher.sticks],
    )
    for thief in thieves:
        sign_root(publisher.file, thief)
    before = tree(repository.directory)
    with pytest.raises(RepositoryError, match="lacks 2 signatures that the former root"):
        merge_root(repository, publisher.file)
    assert tree(repository.directory) == before


def test_a_replaced_root_key_signs_nothing_any_more(publisher: Publisher) -> None:
    repository = publisher.open()
    new, lost = publisher.stick(4), publisher.sticks[1]
    export_root(repository, publisher.file, add={"root": [public(new)]}, remove=[public(lost)])
    for stick in (publisher.sticks[0], publisher.sticks[2]):
        sign_root(publisher.file, stick)
    assert merge_root(repository, publisher.file) == 2
    following = publisher.base / "following.json"
    export_root(repository, following)
    sign_root(following, lost)
    sign_root(following, new)
    with pytest.raises(RepositoryError, match="lacks 1 signatures"):
        merge_root(repository, following)
    sign_root(following, publisher.sticks[0])
    assert merge_root(repository, following) == 3


def test_what_was_signed_cannot_be_changed_afterwards(publisher: Publisher) -> None:
    repository = publisher.open()
    export_root(repository, publisher.file)
    for stick in publisher.sticks:
        sign_root(publisher.file, stick)
    document = json.loads(publisher.file.read_text())
    document["signed"]["roles"]["root"]["threshold"] = 1
    publisher.file.write_text(json.dumps(document))
    with pytest.raises(RepositoryError, match="lacks 2 signatures"):
        merge_root(repository, publisher.file)


@pytest.mark.parametrize("role", ONLINE)
def test_an_online_key_is_replaced_and_no_client_is_lost(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    new = KeyDirectory.generate(
        publisher.base / "new", {other: int(other == role) for other in ("root", *ONLINE)}
    )
    repository = publisher.open()
    export_root(
        repository,
        publisher.file,
        add={role: [public(new, role)]},
        remove=[public(publisher.keys, role)],
    )
    for stick in publisher.sticks[:2]:
        sign_root(publisher.file, stick)
    before = tree(repository.directory)
    with pytest.raises(RepositoryError, match="holds 0 of the keys that the next root trusts"):
        merge_root(repository, publisher.file)
    assert tree(repository.directory) == before
    shutil.copy2(new.path / f"{role}.pem", publisher.keys.path / f"{role}-2.pem")
    cuts = 0
    while True:
        copy = publisher.base / f"cut-{cuts}"
        shutil.copytree(repository.directory, copy)
        merge = functools.partial(merge_root, publisher.open(copy), publisher.file)
        cut = replaces(merge, monkeypatch, cuts)
        assert verify(copy, now=NOW).problems == ()
        if not cut:
            break
        merge()
        assert verify(copy, now=NOW).problems == ()
        cuts += 1
    assert cuts == {"targets": 4, "snapshot": 3, "timestamp": 2}[role]
    # The former key alone publishes nothing any more.
    (publisher.keys.path / f"{role}-2.pem").unlink()
    with pytest.raises(RepositoryError, match=f"trusts for {role}"):
        publisher.open(copy).publish(publisher.base / "slot", channel="stable")


def test_a_threshold_is_raised(publisher: Publisher) -> None:
    second = KeyDirectory.generate(
        publisher.base / "new", {"root": 0, "snapshot": 0, "timestamp": 0}
    )
    repository = publisher.open()
    shutil.copy2(second.path / "targets.pem", publisher.keys.path / "targets-2.pem")
    export_root(
        repository,
        publisher.file,
        add={"targets": [public(second, "targets")]},
        thresholds={"targets": 2},
    )
    for stick in publisher.sticks[:2]:
        sign_root(publisher.file, stick)
    merge_root(repository, publisher.file)
    assert publisher.problems() == ()
    (publisher.keys.path / "targets-2.pem").unlink()
    with pytest.raises(RepositoryError, match="holds 1 of the keys"):
        publisher.open().publish(publisher.base / "slot", channel="stable")


def test_mistakes_are_named(publisher: Publisher) -> None:
    repository = publisher.open()
    stranger = publisher.stick(7)
    with pytest.raises(RepositoryError, match=r"no role trusts the key .*stick-7"):
        export_root(repository, publisher.file, remove=[public(stranger)])
    with pytest.raises(RepositoryError, match="no role 'mirror'"):
        export_root(repository, publisher.file, add={"mirror": [public(stranger)]})
    gone = [public(stick) for stick in publisher.sticks[:2]]
    with pytest.raises(RepositoryError, match="root would have 1 keys and a threshold of 2"):
        export_root(repository, publisher.file, remove=gone)
    with pytest.raises(KeyFileError, match="not a PEM public key"):
        export_root(repository, publisher.file, add={"root": [stranger.path / "root.pem"]})
    assert not publisher.file.exists()
    export_root(repository, publisher.file)
    with pytest.raises(RepositoryError, match="exists already, and may hold signatures"):
        export_root(repository, publisher.file)
    with pytest.raises(RepositoryError, match="holds no key of the role root"):
        sign_root(publisher.file, publisher.keys)
    with pytest.raises(RepositoryError, match="holds targets metadata, not root"):
        sign_root(repository.metadata / "2.targets.json", stranger)


def test_a_root_that_ends_before_it_is_served_is_not_made_or_merged(publisher: Publisher) -> None:
    """A host's clock far behind, or a root that waited too long, would lock every node out."""
    repository = publisher.open()
    publisher.now = NOW - timedelta(days=3000)
    with pytest.raises(RepositoryError, match="3000 days before"):
        export_root(repository, publisher.file)
    publisher.now = NOW
    export_root(repository, publisher.file, expires=NOW + timedelta(days=3))
    for stick in publisher.sticks:
        sign_root(publisher.file, stick)
    publisher.now = NOW + timedelta(days=3)
    with pytest.raises(RepositoryError, match="ended on 2026-12-04"):
        merge_root(repository, publisher.file)


def test_who_signs_sees_what(publisher: Publisher) -> None:
    export_root(publisher.open(), publisher.file)
    lines = describe_root(publisher.file)
    assert lines[0] == "root version 2, valid until 2028-11-30 12:00 UTC"
    [keyid] = [signer.public_key.keyid for signer in publisher.sticks[0].signers("root")]
    assert lines[1].startswith(f"root       2 of 3 must sign: {keyid[:16]}, ")
    assert [line.split()[0] for line in lines[1:]] == ["root", *ONLINE]
