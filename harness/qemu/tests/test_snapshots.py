"""The store of snapshots: what a key depends on, who makes a state, what makes it useless."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.deadline import Deadline
from harness.errors import StateError
from harness.qemu.argv import Storage
from harness.qemu.machine import Host, Machine, Saved
from harness.qemu.snapshots import ROOM, Key, SavedState, States
from harness.qemu.spec import MachineSpec
from harness.qemu.tools import HostTools
from scenarios.profile import KUBESOLO

LIMIT = 20.0


def spec(image: Path, **fields: Any) -> MachineSpec:
    return MachineSpec.model_validate({"arch": "x86_64", "image": image, **fields})


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.touch()
    return path


@pytest.fixture
def key(image: Path) -> Key:
    return Key("digest", spec(image), "tcg", "ready")


class FakeChannel:
    """A guest that takes a file and answers."""

    def put(self, data: bytes, path: str, deadline: Deadline) -> None:
        self.planted = data.decode()

    def ping(self, deadline: Deadline) -> dict[str, str]:
        return {"boot_id": "boot-1"}


class FakeMachine:
    """What the store needs of a machine."""

    def __init__(self, base: Storage | None = None) -> None:
        self.channel = FakeChannel()
        self.base = base
        self.closed = False

    def deadline(self, seconds: float) -> Deadline:
        return Deadline.after(seconds)

    def save(self, directory: Path) -> Saved:
        (directory / "memory").write_text("memory")
        (directory / "disk.qcow2").write_text("disk")
        return Saved(directory / "memory", Storage(directory / "disk.qcow2", None))

    def close(self) -> None:
        self.closed = True


class Maker:
    """Counts how often a state was made."""

    def __init__(self) -> None:
        self.made: list[FakeMachine] = []

    def __call__(self, base: Storage | None = None) -> tuple[Machine, dict[str, str]]:
        machine = FakeMachine(base)
        self.made.append(machine)
        return cast(Machine, machine), {"ready": "line"}


def test_a_state_is_made_once_and_found_again(tmp_path: Path, key: Key) -> None:
    make = Maker()
    for _ in range(2):
        with States(tmp_path / "states").obtain(key, make) as state:
            assert state.boot_id == "boot-1"
            assert state.facts == {"ready": "line"}
            assert state.nonce == make.made[0].channel.planted
            assert state.saved.memory.read_text() == "memory"
    assert len(make.made) == 1
    assert make.made[0].closed


@pytest.mark.parametrize(
    "change",
    [
        {"image": "other"},
        {"command": "qemu-system-x86_64 -accel kvm"},
        {"name": "updated"},
        {"inputs": "release"},
        {"spec": {"memory_mib": 768}},
        {"spec": {"smbios": ()}},
        {"spec": {"secure_boot": True}},
    ],
)
def test_whatever_matters_is_in_the_key(image: Path, key: Key, change: dict[str, Any]) -> None:
    fields: dict[str, Any] = {"image": "digest", "command": "tcg", "name": "ready"}
    fields.update(change)
    other = Key(**{**fields, "spec": spec(image, **change.get("spec", {}))})
    assert other.digest != key.digest


def test_a_kernels_content_matters_and_not_its_place(tmp_path: Path) -> None:
    digests = []
    for name, content in (("one", b"a"), ("two", b"a"), ("three", b"b")):
        (tmp_path / name).write_bytes(content)
        machine = MachineSpec.model_validate({"arch": "x86_64", "kernel": tmp_path / name})
        digests.append(Key("digest", machine, "tcg", "ready").digest)
    assert digests[0] == digests[1] != digests[2]


def test_a_seeds_content_matters_and_not_its_place(
    host_tools: HostTools, image: Path, tmp_path: Path
) -> None:
    host = Host(host_tools, "tcg", 1.0, tmp_path / "runs", profile=KUBESOLO)
    digests = []
    for name, content in (("one", b"a"), ("two", b"a"), ("three", b"b")):
        seed = tmp_path / name
        seed.write_bytes(content)
        digests.append(Key.on(host, spec(image, seed=seed), "digest", "ready", "").digest)
    assert digests[0] == digests[1] != digests[2]
    on_usb = spec(image, seed=tmp_path / "one", seed_bus="usb")
    assert Key.on(host, on_usb, "digest", "ready", "").digest != digests[0]


def test_where_the_image_lies_is_not(tmp_path: Path, key: Key) -> None:
    assert Key("digest", spec(tmp_path / "other.img"), "tcg", "ready").digest == key.digest


def test_an_image_that_moved_makes_the_state_useless(tmp_path: Path, image: Path, key: Key) -> None:
    """The state's disk lies over the image at its old place."""
    make = Maker()
    with States(tmp_path / "states").obtain(key, make):
        pass
    moved = image.rename(tmp_path / "moved.img")
    with States(tmp_path / "states").obtain(Key("digest", spec(moved), "tcg", "ready"), make):
        pass
    assert len(make.made) == 2


@pytest.mark.parametrize("damage", ["{", ""])
def test_a_damaged_state_is_made_again(tmp_path: Path, key: Key, damage: str) -> None:
    make = Maker()
    with States(tmp_path / "states").obtain(key, make) as state:
        (state.saved.memory.parent / "state.json").write_text(damage)
    with States(tmp_path / "states").obtain(key, make):
        pass
    assert len(make.made) == 2


def test_two_that_want_it_at_once_make_it_once_and_hold_it_together(
    tmp_path: Path, key: Key
) -> None:
    """Also where both have seen that there is none before either makes it."""
    make = Maker()
    seen, inside = (threading.Barrier(2, timeout=LIMIT) for _ in range(2))

    class Watched(States):
        def _load(self, folder: Path, key: Key) -> SavedState | None:
            state = super()._load(folder, key)
            if threading.current_thread().name not in looked:
                looked.add(threading.current_thread().name)
                assert state is None
                seen.wait()
            return state

    def want() -> None:
        with Watched(tmp_path / "states").obtain(key, make):
            inside.wait()
            held.append(threading.current_thread().name)

    looked: set[str] = set()
    held: list[str] = []
    threads = [threading.Thread(target=want, name=name) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(make.made) == 1
    assert sorted(held) == ["one", "two"]


def test_all_of_a_state_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a host that loses power has a state with its name and without its memory."""
    done: list[str] = []
    fsync, rename = os.fsync, os.rename

    def fsync_and_tell(descriptor: int) -> None:
        done.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    def rename_and_tell(*paths: Any, **options: Any) -> None:
        done.append("renamed")
        rename(*paths, **options)

    monkeypatch.setattr(os, "fsync", fsync_and_tell)
    monkeypatch.setattr(os, "rename", rename_and_tell)
    with States(tmp_path / "states").obtain(key, Maker()):
        pass
    before, after = done[: done.index("renamed")], done[done.index("renamed") + 1 :]
    assert set(before) == {"memory", "disk.qcow2", "state.json", f"{key.digest}.part"}
    assert before[-1] == f"{key.digest}.part"
    assert after == ["states"]


def test_a_failed_make_leaves_nothing_and_is_remembered(tmp_path: Path, key: Key) -> None:
    calls = []

    def fail() -> tuple[Machine, dict[str, str]]:
        calls.append(1)
        raise StateError("the guest never came up\nlast lines")

    states = States(tmp_path / "states")
    with pytest.raises(StateError, match="never came up"), states.obtain(key, fail):
        pytest.fail("a state that could not be made was given")
    with pytest.raises(StateError, match="before: the guest never"), states.obtain(key, fail):
        pytest.fail("a state that could not be made was given")
    assert len(calls) == 1
    assert [p.name for p in (tmp_path / "states").iterdir() if p.is_dir()] == []


def test_a_machine_that_cannot_be_saved_is_ended(tmp_path: Path, key: Key) -> None:
    class Broken(FakeMachine):
        def save(self, directory: Path) -> Saved:
            raise StateError("no space")

    machine = Broken()
    with (
        pytest.raises(StateError, match="no space"),
        States(tmp_path / "states").obtain(key, lambda: (cast(Machine, machine), {})),
    ):
        pytest.fail("a state that could not be saved was given")
    assert machine.closed
    assert [p.name for p in (tmp_path / "states").iterdir() if p.is_dir()] == []


def test_old_states_go_unless_somebody_uses_them(tmp_path: Path, image: Path) -> None:
    states = States(tmp_path / "states")
    keys = {name: Key("digest", spec(image), "tcg", name) for name in ("old", "used", "new")}
    make = Maker()
    with states.obtain(keys["old"], make):
        pass
    with states.obtain(keys["used"], make):
        long_ago = time.time() - 30 * 24 * 3600
        for name in ("old", "used"):
            os.utime(tmp_path / "states" / keys[name].digest, (long_ago, long_ago))
        left = tmp_path / "states" / "killed.part"
        left.mkdir()
        with states.obtain(keys["new"], make):
            present = {p.name for p in (tmp_path / "states").iterdir() if p.is_dir()}
    assert present == {keys["used"].digest, keys["new"].digest}


def test_states_of_days_ago_go_where_the_disk_is_short(
    tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The longest unused first, until there is room; what was used today stays in any case."""
    root = tmp_path / "states"
    states, make = States(root), Maker()
    keys = {name: Key("digest", spec(image), "tcg", name) for name in ("3", "2", "0", "new")}
    disk = SimpleNamespace(room=2 * ROOM)

    def free(path: Path) -> SimpleNamespace:
        return SimpleNamespace(free=disk.room - sum(p.is_dir() for p in root.iterdir()))

    monkeypatch.setattr(shutil, "disk_usage", free)
    for name in ("3", "2", "0"):
        with states.obtain(keys[name], make):
            pass
        used = time.time() - int(name) * 24 * 3600 - 60
        os.utime(root / keys[name].digest, (used, used))
    for room, left in ((ROOM + 3, {"3", "2", "0"}), (ROOM + 2, {"2", "0"}), (0, {"0"})):
        disk.room = room
        with states.obtain(keys["new"], make):
            pass
        present = {p.name for p in root.iterdir() if p.is_dir()}
        assert present == {keys[name].digest for name in left | {"new"}}
        shutil.rmtree(root / keys["new"].digest)


def test_what_it_was_made_of_is_written_beside_it(tmp_path: Path, key: Key) -> None:
    with States(tmp_path / "states").obtain(key, Maker()) as state:
        meta = json.loads((state.saved.memory.parent / "state.json").read_text())
    assert meta["name"] == "ready"
    assert meta["key"]["memory_mib"] == 512


@pytest.fixture
def later(image: Path) -> Key:
    """The key of a state that is made from the state ``key``."""
    return Key("digest", spec(image), "tcg", "later")


def test_a_state_over_one_that_was_made_anew_is_useless(
    tmp_path: Path, key: Key, later: Key
) -> None:
    """Its disk lies over the other's, whose content is another one now."""
    states, make = States(tmp_path / "states"), Maker()
    with states.obtain(key, make) as first:
        base = first.saved.storage
        for _ in range(2):
            with states.obtain(later, lambda: make(base)):
                pass
        assert len(make.made) == 2
    (first.saved.memory.parent / "state.json").unlink()
    with states.obtain(key, make) as second:
        base = second.saved.storage
        with states.obtain(later, lambda: make(base)):
            pass
    assert len(make.made) == 4


def test_what_a_used_state_lies_over_stays(tmp_path: Path, key: Key, later: Key) -> None:
    states, make = States(tmp_path / "states"), Maker()
    with states.obtain(key, make) as first, states.obtain(later, lambda: make(first.saved.storage)):
        pass
    below = tmp_path / "states" / key.digest
    long_ago = time.time() - 30 * 24 * 3600
    os.utime(below, (long_ago, long_ago))
    with states.obtain(later, make):
        assert below.stat().st_mtime > long_ago
    assert len(make.made) == 2
