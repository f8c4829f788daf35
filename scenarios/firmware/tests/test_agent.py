"""The agent's own tests of power cuts, where a Raspberry Pi's firmware starts the slots."""

from __future__ import annotations

from pathlib import Path

import pytest

from product.agent.tests import test_power_cuts as cuts
from product.agent.tests.test_power_cuts import (  # noqa: F401 # they run here, too
    test_activate_and_the_update_is_good,
    test_activate_and_the_update_never_boots,
    test_apply,
    test_commit,
    test_explaining_a_rollback,
    test_forced_rollback,
    test_manual_rollback,
    test_manual_rollback_of_an_armed_slot,
    test_what_changes_no_slot,
)
from product.agent.tests.world import FakeRelease
from scenarios.firmware.raspberry import RaspberryFirmware, Traits
from scenarios.firmware.tests.world import TrybootWorld

GOOD = FakeRelease("0.2.0")


@pytest.fixture(autouse=True)
def _board(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuts, "World", TrybootWorld)


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrybootWorld:
    return TrybootWorld(tmp_path, monkeypatch)


def test_a_good_update_needs_one_flag(board: TrybootWorld) -> None:
    board.update(GOOD)
    assert board.restarts == ["0 tryboot"]
    assert board.power_on() == "B"
    assert board.env()["boot_counter"] == "2"
    assert board.boot_service() == 0
    assert board.env()["boot_success"] == "1"
    assert board.power_on() == "B", "the commit made it the default"
    assert board.restarts == ["0 tryboot"]
    assert (board.boot_directory("B") / "cmdline.txt").read_text() == (
        "kubesolo.slot=B kubesolo.loader=tryboot panic=1\n"
    )


def test_the_boot_partition_follows_each_update(board: TrybootWorld) -> None:
    """It is whole already, and another release's."""
    for version, slot in (("0.2.0", "B"), ("0.3.0", "A"), ("0.4.0", "B")):
        board.update(FakeRelease(version))
        assert board.power_on() == slot
        assert board.boot_service() == 0
        kernel = (board.boot_directory(slot) / "vmlinuz").read_bytes()
        assert kernel == (board.directory(slot) / "vmlinuz").read_bytes()
        assert version.encode() in kernel


def test_three_failed_boots_roll_back(board: TrybootWorld) -> None:
    board.update(GOOD)
    assert [board.power_on() for _ in range(4)] == ["B", "B", "B", "A"]
    assert board.boot_service() == 0
    assert board.state()["phase"] == "rolled_back"
    assert board.state()["last_error"] == "rolled back: 3 failed boots of 0.2.0"
    assert board.quarantined() == [GOOD.digest]


def test_a_power_cut_while_unconfirmed_spends_a_try(board: TrybootWorld) -> None:
    board.update(GOOD)
    assert board.power_on() == "B"
    board.pull_the_plug()
    assert board.power_on() == "B", "the known-good slot has set the flag again"
    assert board.env()["boot_counter"] == "1"
    assert board.restarts == ["0 tryboot"] * 2


@pytest.mark.parametrize("traits", [Traits(knows_tryboot=False), Traits(knows_a_b=False)])
def test_firmware_that_ignores_the_flag_never_tried_the_release(
    board: TrybootWorld, traits: Traits
) -> None:
    if not traits.knows_a_b:
        # It takes the flag for a matter of files, and the default partition has one.
        (board.boot_directory("A") / "tryboot.txt").write_text("")
    board.firmware = RaspberryFirmware(traits)
    board.update(GOOD)
    assert board.power_on() == "A"
    assert board.restarts == ["0 tryboot"] * 3
    assert board.boot_service() == 0
    state = board.state()
    assert state["phase"] == "failed"
    assert str(state["last_error"]).startswith("never tried: 0.2.0 did not reach early boot")
    assert board.history()[-1] == "trial failed"
    assert board.quarantined() == [GOOD.digest], "or it would be restarted for every night"
    assert any("not tried version=0.2.0" in line for line in board.console())
    board.offered = FakeRelease("0.3.0")
    assert board.run("apply") == 0, "nothing is in the way of the next one"


def test_a_release_whose_kernel_fails_before_early_boot_was_not_seen(board: TrybootWorld) -> None:
    board.dead = {"B"}
    board.update(GOOD)
    assert [board.power_on() for _ in range(4)] == ["B", "B", "B", "A"]
    assert board.boot_service() == 0
    assert str(board.state()["last_error"]).startswith("never tried: ")


def test_a_lost_state_does_not_make_a_rollback_of_it(board: TrybootWorld) -> None:
    board.firmware = RaspberryFirmware(Traits(knows_tryboot=False))
    board.update(GOOD)
    Path(board.paths.state).unlink()
    assert board.power_on() == "A"
    assert board.boot_service() == 0
    assert str(board.state()["last_error"]).startswith("never tried: ")


def test_a_boot_partition_that_does_not_belong_to_its_slot_is_not_returned_to(
    board: TrybootWorld,
) -> None:
    board.update(GOOD)
    assert board.power_on() == "B"
    assert board.boot_service() == 0
    (board.boot_directory("A") / "vmlinuz").write_bytes(b"rot")
    assert board.run("rollback") == 1
    assert board.env()["active_slot"] == "B"


def test_a_boot_partition_that_reads_back_wrong_is_not_armed(
    board: TrybootWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    from product.agent.slots import boot_partition

    real = boot_partition._digest
    monkeypatch.setattr(
        boot_partition,
        "_digest",
        lambda path: "0" * 64 if path.endswith("start4.elf") else real(path),
    )
    board.offered = GOOD
    assert board.run("apply") == 0
    assert board.run("activate") == 1
    assert board.env()["active_slot"] == "A"
    assert not (board.boot_directory("B") / "kubesolo.json").exists()


def test_a_release_for_other_hardware_is_not_armed(board: TrybootWorld) -> None:
    other = FakeRelease("0.2.0")
    board.offered = other
    other.content["board.tar"] = b""
    assert board.run("apply") == 0
    assert board.run("activate") == 1
    assert board.env()["active_slot"] == "A"


@pytest.mark.parametrize("content", [None, b"", b"\0" * 480, b"\xff" * 480])
def test_a_lost_autoboot_boots_the_first_slot_and_is_repaired(
    board: TrybootWorld, content: bytes | None
) -> None:
    if content is None:
        board.env_path.unlink()
    else:
        board.env_path.write_bytes(content)
    assert board.power_on() == "A"
    assert board.boot_service() == 0
    assert board.env()["boot_success"] == "1"
    assert board.env()["active_slot"] == "A"
