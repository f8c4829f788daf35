"""The copy that an activation takes of Kubernetes' datastore."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from product.agent.datastore import freeze, tree
from product.agent.datastore.copies import DatastoreError, find_copies, read_copy, save_copy
from product.agent.datastore.tests.test_freeze import WRITER, goes_on
from product.agent.kubernetes.payload import read_payload
from product.agent.tests.support_datastore import SERVICE, Store, read
from product.agent.tests.world import FakeRelease, World


@pytest.fixture
def store(world: World) -> Store:
    store = Store(world)
    store.write("one")
    return store


def save(store: Store) -> list[str]:
    """What was said."""
    said: list[str] = []
    node = store.world.node()
    payload = read_payload(node.paths)
    assert payload is not None
    save_copy(node, payload, said.append)
    return said


def test_the_copy_belongs_to_the_slot_and_the_release(store: Store) -> None:
    save(store)
    copy = read_copy(store.world.paths, "A")
    assert copy is not None
    assert (copy.slot, copy.version, copy.kubernetes) == ("A", "0.1.0", "1.20.2")
    assert copy.taken_at == "2027-01-15T08:00:00Z"
    assert read(Path(copy.directory)) == "one"
    assert tree.find_damage(copy.directory, copy.files) is None
    assert read_copy(store.world.paths, "B") is None


def test_a_new_copy_replaces_the_old_one(store: Store) -> None:
    save(store)
    store.write("two")
    save(store)
    (copy,) = find_copies(store.world.paths)
    assert read(Path(copy.directory)) == "two"
    assert len(list((store.home / "A").iterdir())) == 2


def test_there_may_be_nothing_to_copy_yet(store: Store) -> None:
    save(store)
    tree.remove(str(store.path))
    assert "nothing to copy" in save(store)[0]
    # What an older datastore left must not come back.
    assert find_copies(store.world.paths) == []


def test_memory_is_not_copied(store: Store) -> None:
    paths = store.world.paths
    boot = json.loads(Path(paths.boot).read_text())
    store.world.write_file(paths.boot, json.dumps({**boot, "data": "volatile"}))
    assert "memory only" in save(store)[0]
    assert find_copies(paths) == []


def statvfs(monkeypatch: pytest.MonkeyPatch, *free: int) -> None:
    """What is free at the first look, the second, and so on."""
    left = list(free)

    def look(path: str) -> SimpleNamespace:
        return SimpleNamespace(f_frsize=1, f_bavail=left.pop(0) if len(left) > 1 else left[0])

    monkeypatch.setattr(os, "statvfs", look)


def test_a_full_disk_refuses_and_keeps_what_there_is(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        aside = store.home / f"aside-2026010{number}T000000Z/data/member"
        aside.mkdir(parents=True)
        (aside / "db").write_text(str(number))
        (aside / "wal").write_text(f"log of {number}")
    statvfs(monkeypatch, 1000)
    with pytest.raises(DatastoreError, match="and 1000 are free") as raised:
        save(store)
    assert raised.value.code == "no-space"
    assert store.read() == "one"
    # Only the latest two are worth more than an update.
    assert store.asides() == ["2", "3"]


def test_room_is_made_of_the_previous_copy_last(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(store)
    store.write("two")
    statvfs(monkeypatch, 0, 0, 10**9)
    assert any("previous copy of slot A is removed" in line for line in save(store))
    (copy,) = find_copies(store.world.paths)
    assert read(Path(copy.directory)) == "two"


def test_who_begins_to_write_meanwhile_makes_the_copy_worthless(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(store)
    store.write("two")
    found: list[list[int]] = [[], [4321]]
    monkeypatch.setattr(freeze, "find_writers", lambda directory: found.pop(0))
    with pytest.raises(DatastoreError, match="process 4321 began to write"):
        save(store)
    (copy,) = find_copies(store.world.paths)
    assert read(Path(copy.directory)) == "one"


def test_a_disk_that_fails_keeps_the_previous_copy(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(store)
    store.write("two")

    def fail(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "sendfile", fail)
    with pytest.raises(DatastoreError, match="No space left") as raised:
        save(store)
    assert "--skip-datastore" in (raised.value.hint or "")
    monkeypatch.undo()
    (copy,) = find_copies(store.world.paths)
    assert read(Path(copy.directory)) == "one"
    assert len(list((store.home / "A").iterdir())) == 2


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "3", '{"directory": "../../etc"}', '{"directory": "x", "kubernetes": "y"}'],
)
def test_garbage_is_named_and_replaced_by_the_next_copy(store: Store, content: str) -> None:
    save(store)
    index = store.home / "A/index.json"
    index.write_text(content)
    with pytest.raises(DatastoreError, match=r"index\.json cannot be read"):
        read_copy(store.world.paths, "A")
    assert find_copies(store.world.paths) == []
    assert store.world.run("status", "--json") == 0
    save(store)
    assert len(find_copies(store.world.paths)) == 1


# While something writes it.


@pytest.fixture
def writer(store: Store) -> Iterator[subprocess.Popen[bytes]]:
    """A real process under a shell that did not exec it, as the supervisor sees it."""
    shell = subprocess.Popen(
        ["sh", "-c", '"$0" -c "$1" "$2" & echo $!; wait', sys.executable, WRITER, store.path],
        stdout=subprocess.PIPE,
    )
    assert shell.stdout is not None
    child = int(shell.stdout.readline())
    pid = store.world.paths.services + f"/{SERVICE}/supervise/pid"
    store.world.write_file(pid, f"{shell.pid}\n")
    deadline = time.monotonic() + 20
    while not ((store.path / "first").exists() and (store.path / "second").exists()):
        assert time.monotonic() < deadline, "the writer does not write"
        time.sleep(0.01)
    yield shell
    for process in (child, shell.pid):
        os.kill(process, 18)
        os.kill(process, 9)
    shell.wait()
    shell.stdout.close()


def test_who_writes_stands_still_and_goes_on(
    store: Store, writer: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Both files grow by turns; a copy of a moment shows them as they were at that moment.
    real = tree.copy
    moments: list[dict[str, bytes]] = []

    def slow(source: str, target: str) -> None:
        def look() -> dict[str, bytes]:
            return {n: (store.path / n).read_bytes() for n in ("first", "second")}

        before = look()
        real(source, target)
        time.sleep(0.1)
        assert look() == before
        moments.append(before)

    monkeypatch.setattr(tree, "copy", slow)
    said = save(store)
    (copy,) = find_copies(store.world.paths)
    for name, content in moments[0].items():
        assert Path(copy.directory, name).read_bytes() == content
    assert str(writer.pid) in said[0]
    child = next(
        int(word)
        for word in said[0].replace(")", " ").replace(",", " ").split()
        if word.isdigit() and int(word) != writer.pid
    )
    # The two files of the store's own do not grow.
    (store.path / "member").rename(store.world.paths.data + "/member")
    assert goes_on(child, store.path)


def test_activation_copies_first(store: Store) -> None:
    world = store.world
    world.update(FakeRelease("0.2.0"))
    (copy,) = find_copies(world.paths)
    assert read(Path(copy.directory)) == "one"
    assert world.env()["active_slot"] == "B"


def test_a_failed_copy_refuses_the_activation_unless_told_to_do_without(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world = store.world
    world.offered = FakeRelease("0.2.0")
    assert world.run("apply") == 0
    statvfs(monkeypatch, 0)
    assert world.run("activate") == 1
    assert "a copy of the datastore takes" in capsys.readouterr().err
    assert world.run("activate", "--force") == 1
    assert world.env()["active_slot"] == "A"
    assert world.state()["phase"] == "staged"
    assert world.run("activate", "--skip-datastore") == 0
    assert "not copied" in capsys.readouterr().err
    assert world.env()["active_slot"] == "B"


def test_doing_without_a_copy_leaves_no_older_one(store: Store) -> None:
    """It would be put back by a rollback, in the place of what came since."""
    world = store.world
    save(store)
    world.offered = FakeRelease("0.2.0")
    assert world.run("apply") == 0
    assert world.run("activate", "--skip-datastore") == 0
    assert read_copy(world.paths, "A") is None


def test_the_list(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    save(store)
    assert store.world.run("datastore") == 0
    assert "slot A: 0.1.0 with Kubernetes 1.20.2, 2027-01-15T08:00:00Z" in capsys.readouterr().out
    assert store.world.run("datastore", "list", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["copies"][0]["version"] == "0.1.0"
    capsys.readouterr()
    store.world.run("status", "--json")
    status = json.loads(capsys.readouterr().out)["datastore"]
    assert status["copies"]["A"]["kubernetes"] == "1.20.2"
    assert status["last"] is None
