"""The state file is lost while a release is on trial: the boot environment tells of the trial."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from product.agent.tests.world import FakeRelease, World

BAD = FakeRelease("0.2.1")


def lose_state(world: World) -> None:
    Path(world.paths.state).unlink()


def garble_state(world: World) -> None:
    Path(world.paths.state).write_bytes(b"\0" * 512)


def replace_state(world: World) -> None:
    """As somebody does who copies a fresh one over it."""
    Path(world.paths.state).write_text('{"phase": "idle"}')


LOSSES = [lose_state, garble_state, replace_state]


@pytest.mark.parametrize("lose", LOSSES)
@pytest.mark.parametrize("boots", [0, 1, 3])
def test_a_lost_trial_that_failed_is_quarantined(world: World, lose: object, boots: int) -> None:
    assert callable(lose)
    world.update(BAD)
    assert [world.power_on() for _ in range(boots)] == ["B"] * boots
    lose(world)
    assert [world.power_on() for _ in range(4 - boots)] == ["B"] * (3 - boots) + ["A"]
    assert world.boot_service() == 0
    state = world.state()
    assert (state["phase"], state["to_version"]) == ("rolled_back", "0.2.1")
    assert state["from_version"] == "0.1.0"
    assert state["last_error"] == ("rolled back: the trial of 0.2.1 failed, its state was lost")
    assert world.quarantined() == [BAD.digest]
    assert world.history()[-1] == "trial rolled_back"
    assert world.run("apply") == 11, "it is not staged again"


@pytest.mark.parametrize("lose", LOSSES)
def test_a_trial_whose_slot_is_lost_too_is_told(world: World, lose: object) -> None:
    """By a disk that acknowledges what it does not keep: only the boot environment is left."""
    assert callable(lose)
    world.update(BAD)
    lose(world)
    (world.directory("B") / "manifest.json").unlink()
    assert [world.power_on() for _ in range(4)] == ["B", "B", "B", "A"]
    assert world.boot_service() == 0
    state = world.state()
    assert (state["phase"], state["to_version"]) == ("rolled_back", None)
    assert str(state["last_error"]).startswith(
        "rolled back: the trial of the release in slot B failed, its state and what the slot held"
    )
    # Nothing is known against the release.
    assert world.quarantined() == []
    assert world.history()[-1] == "trial rolled_back"
    assert world.run("apply") == 0
    world.power_on()
    world.boot_service()
    assert world.state()["phase"] == "staged", "it is told once"


def test_a_command_notices_as_well(world: World) -> None:
    world.update(BAD)
    assert [world.power_on() for _ in range(4)] == ["B", "B", "B", "A"]
    lose_state(world)
    assert world.run("apply") == 11
    assert world.quarantined() == [BAD.digest]


def test_a_lost_trial_goes_on(world: World) -> None:
    world.update(BAD)
    lose_state(world)
    assert world.power_on() == "B"
    assert world.boot_service() == 0
    state = world.state()
    assert (state["phase"], state["to_version"]) == ("success", "0.2.1")
    assert world.quarantined() == []


def test_a_lost_trial_that_is_unhealthy_is_quarantined(world: World) -> None:
    world.write_file(world.paths.config, "auto_rollback_after=1\nserver=http://x/\npubkey=y\n")
    world.update(BAD)
    lose_state(world)
    assert world.power_on() == "B"
    world.break_disk()
    assert world.boot_service() is None
    world.mend_disk()
    assert world.power_on() == "A"
    assert world.boot_service() == 0
    assert world.quarantined() == [BAD.digest]


def test_what_was_settled_is_not_told_again(world: World) -> None:
    world.update(BAD)
    assert [world.power_on() for _ in range(4)] == ["B", "B", "B", "A"]
    world.boot_service()
    world.run("quarantine", "clear", "--all")
    world.power_on()
    world.boot_service()
    assert world.run("apply") == 0, "the operator said so"
    assert world.quarantined() == []
    world.power_on()
    world.boot_service()
    assert (world.state()["phase"], world.quarantined()) == ("staged", [])


@pytest.mark.parametrize("lose", LOSSES)
def test_a_good_release_stays_one(world: World, lose: object) -> None:
    """Also where it took the last try."""
    assert callable(lose)
    world.update(FakeRelease("0.2.0"))
    assert [world.power_on() for _ in range(3)] == ["B", "B", "B"]
    assert world.boot_service() == 0
    assert world.env()["boot_counter"] == "0"
    lose(world)
    assert world.power_on() == "B"
    assert world.boot_service() == 0
    assert world.quarantined() == []
    assert world.run("rollback") == 0


def test_another_release_in_the_slot_is_not_blamed(world: World) -> None:
    world.update(BAD)
    assert [world.power_on() for _ in range(4)] == ["B", "B", "B", "A"]
    world.boot_service()
    world.offered = FakeRelease("0.3.0")
    assert world.run("apply") == 0
    lose_state(world)
    world.power_on()
    world.boot_service()
    assert world.quarantined() == [BAD.digest]


def test_an_older_agents_token_says_nothing(world: World) -> None:
    world.update(BAD)
    assert [world.power_on() for _ in range(4)] == ["B", "B", "B", "A"]
    world.set_env(**{**world.env(), "trial": "0a1b2c3d"})
    lose_state(world)
    assert world.boot_service() == 0
    assert world.quarantined() == []


def test_two_attempts_are_not_mixed_up(world: World) -> None:
    """The slot of the first and the digest of the second; the first one's manifest is damaged."""
    world.update(FakeRelease("0.2.0"))
    world.power_on()
    world.boot_service()
    world.offered = FakeRelease("0.1.5")
    assert world.run("apply") == 11
    assert world.state()["to_digest"] == world.offered.digest
    (world.directory("B") / "manifest.json").write_text("garbage")
    assert world.run("rollback") == 0
    assert world.quarantined() == []


def test_an_older_agents_state_is_not_mixed_up(world: World) -> None:
    world.update(FakeRelease("0.2.0"))
    world.power_on()
    world.boot_service()
    state = world.state()
    for field in ("unproved", "settled", "rollback"):
        del state[field]
    state.update(phase="failed", to_version="0.3.0", to_digest="f" * 64)
    world.write_file(world.paths.state, json.dumps(state))
    (world.directory("B") / "manifest.json").write_text("garbage")
    assert world.run("rollback") == 0
    assert world.quarantined() == []
