"""From which snapshot a node begins, and what becomes of one that no node can begin from."""

from __future__ import annotations

import builtins
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from harness.errors import LaunchError, StateError
from harness.journal.journal import Journal
from harness.qemu import snapshots
from harness.qemu.machine import Host, Machine
from harness.qemu.snapshots import Key, SavedState, States
from harness.qemu.spec import MachineSpec
from harness.qemu.tests.test_argv import Tools
from harness.qemu.tests.test_snapshots import FakeMachine
from harness.target.node import Node
from scenarios.profile import KUBESOLO

READY = "kubesolo-update: ready version=0.1.0 slot=A confirmed=1"


class World:
    """A node whose snapshots are small files; ``bad`` of its forks fail, the first ones."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[str] = []
        self.forked: list[str] = []
        self.keys: list[Key] = []
        self.bad = 0
        self.root = tmp_path
        self.states = States(tmp_path / "states")
        (tmp_path / "disk.img").touch()
        obtain = self.states.obtain

        def obtain_and_tell(key: Key, make: Any) -> Any:
            self.keys.append(key)
            return obtain(key, self.make)

        monkeypatch.setattr(self.states, "obtain", obtain_and_tell)
        monkeypatch.setattr(snapshots, "fork", self.fork)

    def make(self) -> tuple[Machine, dict[str, str]]:
        machine = FakeMachine()
        self.made.append("made")
        return cast(Machine, machine), {"ready": READY}

    def fork(self, state: SavedState, *_: object) -> Machine:
        self.forked.append(state.nonce)
        if len(self.forked) <= self.bad:
            raise LaunchError("QEMU's migrate-incoming failed: error while loading state")
        machine = FakeMachine()
        machine.journal = Journal()  # type: ignore[attr-defined]
        return cast(Machine, machine)

    def node(self, accelerator: str = "tcg") -> Node:
        spec = MachineSpec.model_validate({"arch": "x86_64", "image": self.root / "disk.img"})
        host = Host(Tools(), accelerator, 1.0, self.root / "runs", profile=KUBESOLO)
        return Node(spec, host, self.root / "node", image="digest", states=self.states)

    def begin(self, accelerator: str = "tcg") -> Node:
        node = self.node(accelerator)
        node.prepared("ready", lambda maker: None)
        return node


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def test_a_snapshot_that_cannot_be_forked_from_is_made_anew_once(world: World) -> None:
    world.bad = 1
    node = world.begin()
    assert len(world.made) == 2
    assert len(set(world.forked)) == 2
    notes = [event.text for event in node.journal.events() if event.kind == "note"]
    assert any("made anew" in note and "error while loading state" in note for note in notes)
    node.close()
    world.begin().close()
    assert len(world.made) == 2, "the good one is kept"


def test_one_that_cannot_be_forked_from_either_is_an_error_and_not_kept(world: World) -> None:
    world.bad = 2
    with pytest.raises(LaunchError, match="error while loading state"):
        world.begin()
    assert len(world.made) == 2
    world.begin().close()
    assert len(world.made) == 3


def test_a_node_does_not_wait_for_another_one_of_its_own_scenario(world: World) -> None:
    """It would hold what has to go first until the scenario ends."""
    first = world.begin()
    world.bad = 2
    with pytest.raises(StateError, match="another node"):
        world.begin()
    first.close()
    world.begin().close()
    assert len(world.made) == 2


CPUINFO = """processor\t: {number}
vendor_id\t: GenuineIntel
model name\t: Xeon {model}
cpu MHz\t\t: {mhz}
flags\t\t: fpu sse2 {flags}
bogomips\t: {mhz}

"""


@pytest.fixture
def cpuinfo(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make the host another one."""
    real = builtins.open
    fields: dict[str, object] = {}

    def opened(file: Any, *arguments: Any, **options: Any) -> Any:
        if str(file) == "/proc/cpuinfo":
            return io.StringIO("".join(CPUINFO.format(number=n, **fields) for n in range(2)))
        return real(file, *arguments, **options)

    monkeypatch.setattr(builtins, "open", opened)

    def change(**changed: object) -> None:
        fields.update(changed)

    change(model=1, mhz=2100, flags="avx2")
    return change


def test_under_kvm_the_hosts_processor_is_in_the_key(
    world: World, cpuinfo: Callable[..., None]
) -> None:
    def digest(accelerator: str) -> str:
        world.begin(accelerator).close()
        return world.keys[-1].digest

    kvm, tcg = digest("kvm"), digest("tcg")
    cpuinfo(mhz=3000)
    assert digest("kvm") == kvm
    for change in ({"model": 2}, {"flags": "avx2 avx512f"}):
        before = digest("kvm")
        cpuinfo(**change)
        assert digest("kvm") != before
        assert digest("tcg") == tcg
