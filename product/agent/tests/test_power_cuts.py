"""The power fails after every single durable step of every command.

A step is a system call that changes a file: the exhaustive loop cuts before the first, after the
first, and so on, until a run gets through.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import cast

import pytest

from product.agent.errors import AgentError
from product.agent.tests.world import FakeRelease, World
from product.manifest import Manifest

GOOD = FakeRelease("0.2.0")
BAD = FakeRelease("0.2.1")
STEPS = (
    "fsync", "replace", "unlink", "pwrite", "rename", "write", "mkdir", "rmdir", "ftruncate",
    "symlink", "sendfile", "open",
)  # fmt: skip


class PowerCut(BaseException):
    """Not an Exception: no handler of the product may see a power cut."""


def cut_after(steps: int, monkeypatch: pytest.MonkeyPatch, action: Callable[[], object]) -> bool:
    """Run ``action`` and cut it after ``steps`` changes; whether it got through."""
    left = steps

    def counted(real: Callable[..., object]) -> Callable[..., object]:
        def step(*arguments: object, **keywords: object) -> object:
            nonlocal left
            if real is opened and not cast(int, arguments[1]) & os.O_CREAT:
                return real(*arguments, **keywords)
            if left == 0:
                raise PowerCut
            left -= 1
            return real(*arguments, **keywords)

        return step

    opened: Callable[..., object] = os.open
    with monkeypatch.context() as patch:
        for name in STEPS:
            patch.setattr(os, name, counted(getattr(os, name)))
        try:
            action()
        except PowerCut:
            return False
    return True


def worlds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepare: Callable[[World], object]
) -> Iterator[tuple[int, World]]:
    """One fresh world after another, each prepared for one more step."""
    for steps in range(200):
        with monkeypatch.context() as patch:
            world = World(tmp_path / str(steps), patch)
            prepare(world)
            yield steps, world
    raise AssertionError("200 cuts and the action still does not get through")


def staged(world: World) -> None:
    world.offered = GOOD
    assert world.run("apply") == 0


def on_trial(world: World) -> None:
    world.update(GOOD)
    world.power_on()


def confirmed(world: World) -> None:
    on_trial(world)
    world.boot_service()


def settle(world: World) -> str:
    """Boot until the node is confirmed; the slot it is on."""
    for _ in range(6):
        slot = world.power_on()
        if world.boot_service() == 0 and world.env()["boot_success"] == "1":
            return slot
    raise AssertionError("the node never came to rest")


def require_whole_or_unsealed(world: World, slot: str) -> None:
    """A slot with a manifest holds all of what the manifest lists."""
    path = world.directory(slot) / "manifest.json"
    if path.exists():
        for artifact in Manifest.parse(path.read_bytes()).artifacts:
            data = (world.directory(slot) / artifact.name).read_bytes()
            assert hashlib.sha256(data).hexdigest() == artifact.sha256


def test_apply(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cuts = 0

    def prepare(world: World) -> None:
        world.offered = GOOD
        world.fill("B", FakeRelease("0.0.9"))

    for steps, world in worlds(tmp_path, monkeypatch, prepare):
        before = {p.name: p.read_bytes() for p in world.directory("A").iterdir()}
        through = cut_after(steps, monkeypatch, partial(world.run, "apply"))
        require_whole_or_unsealed(world, "B")
        assert settle(world) == "A"
        assert {p.name: p.read_bytes() for p in world.directory("A").iterdir()} == before
        assert world.quarantined() == []
        if through:
            break
        cuts += 1
        assert world.run("apply") == 0
        assert world.run("activate") == 0
        assert settle(world) == "B"
        assert world.state()["phase"] == "success"
    assert cuts > 20


def test_activate_and_the_update_is_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for steps, world in worlds(tmp_path, monkeypatch, staged):
        through = cut_after(steps, monkeypatch, partial(world.run, "activate"))
        armed = world.env()["active_slot"] == "B"
        slot = settle(world)
        assert slot == ("B" if armed else "A")
        assert world.state()["phase"] == ("success" if armed else "staged")
        assert world.quarantined() == []
        if through:
            break


def test_activate_and_the_update_never_boots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for steps, world in worlds(tmp_path, monkeypatch, staged):
        through = cut_after(steps, monkeypatch, partial(world.run, "activate"))
        armed = world.env()["active_slot"] == "B"
        if armed:
            assert [world.power_on() for _ in range(3)] == ["B", "B", "B"]
        assert settle(world) == "A"
        if armed:
            assert world.state()["last_error"] == "rolled back: 3 failed boots of 0.2.0"
            assert world.quarantined() == [GOOD.digest]
        else:
            assert world.state()["phase"] == "staged"
            assert world.quarantined() == []
            # What was written is still good.
            assert world.run("activate") == 0
            assert settle(world) == "B"
        if through:
            break


def test_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for steps, world in worlds(tmp_path, monkeypatch, on_trial):
        through = cut_after(steps, monkeypatch, world.boot_service)
        committed = world.env()["boot_success"] == "1"
        assert settle(world) == "B"
        assert world.state()["phase"] == "success"
        assert world.state()["last_error"] is None
        assert world.quarantined() == []
        if through:
            assert committed
            break


def test_forced_rollback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(world: World) -> None:
        world.write_file(world.paths.config, "auto_rollback_after=1\nserver=http://x/\npubkey=y\n")
        on_trial(world)
        world.break_disk()

    def judged(world: World) -> None:
        code = world.boot_service()
        assert code is None

    for steps, world in worlds(tmp_path, monkeypatch, failing):
        through = cut_after(steps, monkeypatch, partial(judged, world))
        for _ in range(5):
            if world.power_on() == "A":
                break
            world.boot_service()
        world.mend_disk()
        assert world.boot_service() == 0
        assert world.env()["active_slot"] == "A"
        assert world.env()["boot_success"] == "1"
        state = world.state()
        assert state["phase"] == "rolled_back"
        assert str(state["last_error"]).startswith("rolled back: ")
        assert "failed health check" in str(state["last_error"])
        assert world.quarantined() == [GOOD.digest]
        if through:
            break


def up_to_date(world: World) -> None:
    """As the schedule leaves a node."""
    confirmed(world)
    world.offered = None
    assert world.run("apply") == 0
    assert world.state()["phase"] == "idle"


def server_gone(world: World) -> None:
    confirmed(world)
    world.server_error = AgentError("no answer", code="server-unreachable")
    assert world.run("apply") == 1


def another_refused(world: World) -> None:
    confirmed(world)
    world.offered = FakeRelease("0.1.5")
    assert world.run("apply") == 11


def another_cut_off(world: World) -> None:
    """Between the release's name and the first byte in the slot."""
    confirmed(world)
    world.offered = FakeRelease("0.3.0")
    state = world.node().load_state().state.begin("0.2.0", 0)
    world.node().save_state(state.set_target("0.3.0", world.offered.digest))


@pytest.mark.parametrize(
    "prepare", [confirmed, up_to_date, server_gone, another_refused, another_cut_off, on_trial]
)
def test_manual_rollback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepare: Callable[[World], None]
) -> None:
    """Followed by a boot, by a command where only the process was killed, by another rollback."""
    cuts = 0
    for steps, world in worlds(tmp_path, monkeypatch, prepare):
        before = world.state()
        action = partial(world.run, "rollback")
        through = cut_after(steps, monkeypatch, action)
        changed = world.env()["active_slot"] == "A"
        cuts += not through
        if steps % 3 == 1:
            world.run("activate")
        elif steps % 3 == 2 and not changed:
            assert world.run("rollback") == 0
            changed = True
        assert settle(world) == ("A" if changed else "B")
        state = world.state()
        assert state["rollback"] is None
        if changed:
            assert (state["phase"], state["last_error"]) == ("rolled_back", "manual rollback")
            assert (state["to_version"], state["to_digest"]) == ("0.2.0", GOOD.digest)
            assert world.quarantined() == [GOOD.digest]
        else:
            kept = "success" if prepare is on_trial else before["phase"]
            assert (state["phase"], state["last_error"]) == (kept, before["last_error"])
            assert world.quarantined() == []
        if through:
            assert changed
            world.server_error, world.offered = None, FakeRelease("0.4.0")
            assert world.run("apply") == 0, "nothing is in the way of the next update"
            break
    assert cuts > 10


def test_manual_rollback_of_an_armed_slot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def armed(world: World) -> None:
        staged(world)
        assert world.run("activate") == 0

    for steps, world in worlds(tmp_path, monkeypatch, armed):
        action = partial(world.run, "rollback")
        through = cut_after(steps, monkeypatch, action)
        changed = world.env()["active_slot"] == "A"
        assert settle(world) == ("A" if changed else "B")
        assert world.quarantined() == []
        assert world.state()["phase"] == ("rolled_back" if changed else "success")
        if through:
            break


def test_explaining_a_rollback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rolled_back(world: World) -> None:
        world.update(BAD)
        assert [world.power_on() for _ in range(4)] == ["B", "B", "B", "A"]

    for steps, world in worlds(tmp_path, monkeypatch, rolled_back):
        through = cut_after(steps, monkeypatch, world.boot_service)
        assert settle(world) == "A"
        assert world.state()["last_error"] == "rolled back: 3 failed boots of 0.2.1"
        assert world.quarantined() == [BAD.digest]
        if through:
            break


@pytest.mark.parametrize("command", ["check", "quarantine clear --all"])
def test_what_changes_no_slot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    def rolled_back(world: World) -> None:
        world.update(BAD)
        assert [world.power_on() for _ in range(4)] == ["B", "B", "B", "A"]
        world.boot_service()
        world.offered = GOOD

    for steps, world in worlds(tmp_path, monkeypatch, rolled_back):
        before = (world.env(), world.state())
        through = cut_after(steps, monkeypatch, partial(world.run, *command.split()))
        assert (world.env(), world.state()) == before
        assert world.quarantined() in ([BAD.digest], [])
        assert settle(world) == "A"
        assert world.run(*command.split()) in (0, 10)
        assert world.quarantined() == ([] if "clear" in command else [BAD.digest])
        if through:
            break
    assert steps > 2
