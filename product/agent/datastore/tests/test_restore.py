"""Which datastore Kubernetes starts with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from product.agent.datastore.copies import DatastoreError, find_copies, read_copy
from product.agent.datastore.restore import Marker, read_marker, restore_latest
from product.agent.tests.support_datastore import SERVICE, Store, read
from product.agent.tests.test_power_cuts import cut_after
from product.agent.tests.world import FakeRelease, World

OLD, NEW = "1.20.2", "1.21.0"


def updated(world: World, kubernetes: str = NEW) -> Store:
    """0.1.0 in slot A gave way to 0.2.0 in slot B, which wrote more."""
    store = Store(world)
    store.write("of 0.1.0")
    assert store.settle() == 0
    world.update(FakeRelease("0.2.0"))
    assert store.boot(kubernetes) == "B"
    assert store.settle() == 0
    assert store.read() == "of 0.1.0"
    store.write("of 0.2.0")
    return store


def rolled_back(world: World, kubernetes: str = NEW) -> Store:
    """Slot A again, before its Kubernetes starts."""
    store = updated(world, kubernetes)
    world.set_env(active_slot="A", boot_counter="0", boot_success="1")
    assert store.boot(OLD) == "A"
    return store


@pytest.fixture
def back(world: World) -> Store:
    return rolled_back(world)


def event(store: Store) -> str:
    marker = read_marker(store.world.paths)
    assert marker is not None
    return marker.event or ""


def test_the_first_boot_only_records(world: World) -> None:
    store = Store(world)
    assert store.settle() == 0
    assert read_marker(world.paths) == Marker("A", "0.1.0", OLD, "2027-01-15T08:00:00Z")
    assert world.console() == []
    assert not Path(world.paths.history).exists()


def test_a_newer_release_takes_the_datastore_over(world: World) -> None:
    store = updated(world)
    marker = read_marker(world.paths)
    assert marker is not None
    assert marker._replace(time="") == Marker("B", "0.2.0", NEW, "")
    assert store.asides() == []


def test_back_from_a_newer_minor_version_the_copy_returns(back: Store) -> None:
    assert back.settle() == 0
    assert back.read() == "of 0.1.0"
    assert back.asides() == ["of 0.2.0"]
    (aside,) = back.home.glob("aside-*")
    for text in (event(back), back.world.console()[-1]):
        assert "release 0.2.0 with Kubernetes 1.21.0 ran the datastore last" in text
        assert "the copy of 2027-01-15T08:00:00Z was put back" in text
        assert f"changes made since, under 0.1.0 too, are kept in {aside}/data" in text
    about = json.loads((aside / "about.json").read_text())
    assert "0.2.0" in about["reason"]
    assert back.world.history()[-1] == "datastore restored"
    # It is in use now, and a copy no longer.
    assert find_copies(back.world.paths) == []
    assert not (back.home / "journal.json").exists()


def test_the_next_boot_leaves_it_alone(back: Store) -> None:
    back.settle()
    back.write("of 0.1.0 again")
    before = event(back)
    back.boot(OLD)
    assert back.settle() == 0
    assert back.read() == "of 0.1.0 again"
    assert event(back) == before
    assert back.world.console() == []


def test_status_shows_what_was_done(back: Store, capsys: pytest.CaptureFixture[str]) -> None:
    back.settle()
    back.world.run("status", "--json")
    status = json.loads(capsys.readouterr().out)["datastore"]
    assert "was put back" in status["last"]["event"]
    assert [Path(path).name[:6] for path in status["asides"]] == ["aside-"]
    back.world.run("status")
    assert "datastore: release 0.2.0 with" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("kubernetes", "policy", "restored"),
    [
        ("1.20.9", "minor", False),
        ("1.20.9", "always", True),
        ("1.20.9", "never", False),
        (NEW, "minor", True),
        (NEW, "always", True),
        (NEW, "never", False),
        ("2.0.0", "minor", True),
        ("1.19.0", "minor", True),
        ("1.19.0", "never", False),
        ("1.100.0", "minor", True),
    ],
)
def test_when_it_returns(world: World, kubernetes: str, policy: str, restored: bool) -> None:
    store = rolled_back(world, kubernetes)
    world.write_file(world.paths.config, f"datastore_restore={policy}\n")
    assert store.settle() == 0
    assert store.read() == ("of 0.1.0" if restored else "of 0.2.0")
    assert len(store.asides()) == int(restored)
    said = policy == "never" and kubernetes in (NEW, "1.19.0")
    assert ("datastore_restore is never" in event(store)) == said
    marker = read_marker(world.paths)
    assert marker is not None
    assert (marker.slot, marker.version, marker.kubernetes) == ("A", "0.1.0", OLD)


def damage(store: Store) -> None:
    copy = read_copy(store.world.paths, "A")
    assert copy is not None
    Path(copy.directory, "member/db").write_text("of 0.1.1")


def lose(store: Store) -> None:
    (store.home / "A/index.json").unlink()


def spoil(store: Store) -> None:
    (store.home / "A/index.json").write_text("{")


def belong_to_another(store: Store) -> None:
    path = store.home / "A/index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": "0.0.9"}))


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (damage, "the copy is damaged: member/db has other bytes"),
        (lose, "slot A has no copy"),
        (spoil, "cannot be read"),
        (belong_to_another, "slot A has only one of 0.0.9"),
    ],
)
def test_a_copy_that_cannot_be_used_leaves_the_present_one(
    back: Store, harm: object, words: str
) -> None:
    harm(back)  # type: ignore[operator]
    assert back.settle() == 0
    assert back.read() == "of 0.2.0"
    assert back.asides() == []
    assert "it is kept, for" in event(back)
    assert words in event(back)
    assert back.world.history()[-1] == "datastore kept"
    assert words in back.world.console()[-1]


def test_an_operators_rollback_takes_the_same_way(world: World) -> None:
    store = updated(world)
    world.set_env(active_slot="B", boot_counter="3", boot_success="1")
    assert world.run("rollback") == 0
    assert store.boot(OLD) == "A"
    store.settle()
    assert store.read() == "of 0.1.0"
    assert store.asides() == ["of 0.2.0"]


def test_while_kubernetes_runs_nothing_is_settled(
    back: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    pid = f"{back.world.paths.services}/{SERVICE}/supervise/pid"
    back.world.write_file(pid, f"{os.getpid()}\n")
    assert back.world.run("datastore", "settle") == 1
    assert "kubernetes is started already" in capsys.readouterr().err
    assert back.read() == "of 0.2.0"
    os.unlink(pid)
    assert back.world.run("datastore", "settle") == 0
    assert "was put back" in capsys.readouterr().out


def test_a_datastore_that_somebody_writes_is_not_moved(back: Store) -> None:
    held = f"open({str(back.path / 'member/held')!r}, 'w')"
    program = f"held = {held}; print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert back.settle() == 1
        assert f"process {process.pid} writes" in back.world.console()[-1]
        assert back.read() == "of 0.2.0"
        process.kill()
    # What was begun is finished as soon as it can be.
    assert back.settle() == 0
    assert back.read() == "of 0.1.0"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"slot": "A"}', "3"])
def test_a_spoilt_marker_is_said_and_written_anew(back: Store, content: str) -> None:
    (back.home / "last.json").write_text(content)
    with pytest.raises(DatastoreError):
        read_marker(back.world.paths)
    assert back.settle() == 0
    assert "the present datastore is taken over" in back.world.console()[0]
    assert back.read() == "of 0.2.0"
    assert read_marker(back.world.paths) is not None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"source": "A"}'])
def test_a_spoilt_journal_is_put_aside(back: Store, content: str) -> None:
    (back.home / "journal.json").write_text(content)
    assert back.settle() == 0
    assert back.read() == "of 0.1.0"
    assert (back.home / "journal.json.corrupt").read_text() == content


@pytest.mark.parametrize("notes", [None, "", "slot=C\n", "data=persistent\n"])
def test_without_early_boots_notes_nothing_is_touched(back: Store, notes: str | None) -> None:
    if notes is None:
        os.unlink(back.world.paths.early)
    else:
        back.world.write_file(back.world.paths.early, notes)
    assert back.settle() == 1
    assert "cannot be settled" in back.world.console()[-1]
    assert back.read() == "of 0.2.0"


def test_a_node_in_memory_has_nothing_to_settle(back: Store) -> None:
    back.world.write_file(back.world.paths.early, "slot=A\ndata=volatile\n")
    assert back.settle() == 0
    assert back.read() == "of 0.2.0"


def test_what_early_boot_compares_is_what_is_written(back: Store) -> None:
    paths = back.world.paths
    back.settle()
    own = b"slot=A\n" + Path(paths.release).read_bytes() + Path(paths.payload).read_bytes()
    assert (back.home / "settled").read_bytes() == own


def test_a_rename_that_fails_puts_the_newer_one_back(
    back: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.rename

    def fail(source: str, target: str) -> None:
        if "/A/copy-" in source:
            raise OSError(5, "Input/output error")
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", fail)
        assert back.settle() == 1
    assert back.read() == "of 0.2.0"
    assert "Input/output error" in back.world.console()[-1]
    assert back.settle() == 0
    assert back.read() == "of 0.1.0"
    assert back.asides() == ["of 0.2.0"]


# A datastore that cannot be used.


def test_the_latest_copy_replaces_a_damaged_datastore(world: World) -> None:
    store = updated(world)
    store.write("damaged")
    done = restore_latest(world.node(), "etcd: crc mismatch")
    assert done is not None
    assert "the datastore was damaged (etcd: crc mismatch)" in done
    assert "changes made since are kept in" in done
    assert store.read() == "of 0.1.0"
    assert store.asides() == ["damaged"]
    # Slot A still has its copy.
    assert [copy.slot for copy in find_copies(world.paths)] == ["A"]
    assert read_marker(world.paths)._replace(time="", event=None) == Marker(  # type: ignore[union-attr]
        "B", "0.2.0", NEW, ""
    )


def test_it_also_comes_where_the_damaged_one_was_moved_away(world: World) -> None:
    store = updated(world)
    store.path.rename(store.path.with_name("etcd.damaged"))
    done = restore_latest(world.node(), "it does not open")
    assert done is not None
    assert "are kept in" not in done
    assert store.read() == "of 0.1.0"
    assert store.asides() == []


def test_no_copy_of_a_newer_minor_version_nor_a_damaged_one(world: World) -> None:
    store = updated(world)
    store.run_kubernetes("1.19.0")
    assert restore_latest(world.node(), "x") is None
    store.run_kubernetes(NEW)
    damage(store)
    assert restore_latest(world.node(), "x") is None
    assert store.read() == "of 0.2.0"
    os.unlink(world.paths.payload)
    assert restore_latest(world.node(), "x") is None


# Power cuts.


def worlds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stride: int = 1
) -> Iterator[tuple[int, World]]:
    for steps in range(0, 400, stride):
        with monkeypatch.context() as patch:
            yield steps, World(tmp_path / str(steps), patch)
    raise AssertionError("400 cuts and the action still does not get through")


def test_a_cut_at_every_step_of_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for steps, world in worlds(tmp_path, monkeypatch):
        store = Store(world)
        store.write("one")
        world.offered = FakeRelease("0.2.0")
        assert world.run("apply") == 0
        assert world.run("activate") == 0
        world.run("rollback")
        world.run("apply")
        store.write("two")
        through = cut_after(steps, monkeypatch, partial(world.run, "activate"))
        assert store.read() == "two"
        copies = find_copies(world.paths)
        texts = [read(Path(copy.directory)) for copy in copies]
        assert texts in (["one"], ["two"])
        armed = world.env()["active_slot"] == "B"
        assert not armed or texts == ["two"]
        if through:
            break
        store.boot(OLD)
        world.set_env(active_slot="A", boot_counter="0", boot_success="1")
    assert steps > 30


def settled_well(store: Store, also: set[str]) -> None:
    """Boot once more; Kubernetes finds the old datastore, and nothing is lost."""
    for _ in range(2):
        store.boot(OLD, slot="A")
        assert store.settle() == 0
        assert store.read() == "of 0.1.0"
    assert set(store.asides()) == also
    assert not (store.home / "journal.json").exists()
    assert {path.name for path in store.home.iterdir()} <= {
        "A",
        "last.json",
        "settled",
        *(path.name for path in store.home.glob("aside-*")),
        *(path.name for path in store.home.glob("*.tmp")),
    }
    marker = read_marker(store.world.paths)
    assert marker is not None
    assert marker.slot == "A"
    assert find_copies(store.world.paths) == []
    assert "datastore restored" in store.world.history()


def test_a_cut_at_every_step_of_a_restore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for steps, world in worlds(tmp_path, monkeypatch):
        store = rolled_back(world)
        through = cut_after(steps, monkeypatch, store.settle)
        assert store.read() in ("of 0.1.0", "of 0.2.0", None)
        settled_well(store, {"of 0.2.0"})
        if through:
            break
    assert steps > 20


def test_a_second_cut_in_the_repair_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for steps, world in worlds(tmp_path, monkeypatch, stride=3):
        store = rolled_back(world)
        cut_after(steps, monkeypatch, store.settle)
        store.boot(OLD, slot="A")
        through = cut_after(steps // 2, monkeypatch, store.settle)
        settled_well(store, {"of 0.2.0"})
        if through:
            break


def test_kubernetes_that_started_between_two_cuts_loses_nothing_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = 0
    for steps, world in worlds(tmp_path, monkeypatch):
        store = rolled_back(world)
        through = cut_after(steps, monkeypatch, store.settle)
        if not store.path.exists():
            made += 1
            store.write("made by an empty start")
            settled_well(store, {"of 0.2.0", "made by an empty start"})
        if through:
            break
    assert made > 0


def test_a_cut_at_every_step_of_replacing_a_damaged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for steps, world in worlds(tmp_path, monkeypatch):
        store = updated(world)
        store.write("damaged")
        through = cut_after(
            steps, monkeypatch, partial(restore_latest, world.node(), "etcd does not start")
        )
        assert [copy.slot for copy in find_copies(world.paths)] == ["A"]
        store.boot(NEW, slot="B")
        assert store.settle() == 0
        # Either nothing was done yet, or all of it is by now.
        replaced = store.read() == "of 0.1.0"
        assert store.asides() == (["damaged"] if replaced else [])
        assert replaced or store.read() == "damaged"
        assert not list(store.home.glob("incoming-*"))
        if through:
            assert replaced
            break
    assert steps > 30
