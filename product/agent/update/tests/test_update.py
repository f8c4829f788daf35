"""Whole updates: apply, activate, reboots, judgement."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from product.agent.errors import AgentError
from product.agent.tests.support_cluster import Cluster
from product.agent.tests.world import SLOT_DEVICES, FakeRelease, World
from product.agent.update.gates import BLOCK_LABEL
from product.disk import find
from product.manifest import ARTIFACT_NAMES, Manifest

GOOD = FakeRelease("0.2.0")
BAD = FakeRelease("0.2.1")


def test_good_update_is_committed(world: World) -> None:
    world.update(GOOD)
    assert world.env() == {
        "active_slot": "B",
        "boot_counter": "3",
        "boot_success": "0",
        "trial": world.state()["trial"],
    }
    assert world.state()["phase"] == "activated"
    assert world.power_on() == "B"
    assert world.boot_service() == 0
    assert world.env()["boot_success"] == "1"
    assert world.console() == ["kubesolo-update: ready version=0.2.0 slot=B confirmed=1"]
    state = world.state()
    assert (state["phase"], state["from_version"], state["to_version"]) == (
        "success",
        "0.1.0",
        "0.2.0",
    )
    assert (state["attempt_count"], state["health_check_failures"]) == (0, 0)
    assert world.history() == ["apply staged", "activate activated", "trial success"]
    assert world.quarantined() == []


def test_three_failed_boots_are_explained_and_quarantined(world: World) -> None:
    world.update(BAD)
    assert [world.power_on() for _ in range(4)] == ["B", "B", "B", "A"]
    assert world.boot_service() == 0
    state = world.state()
    assert state["phase"] == "rolled_back"
    assert state["last_error"] == "rolled back: 3 failed boots of 0.2.1"
    assert world.quarantined() == [BAD.digest]
    assert world.console() == [
        "kubesolo-update: rolled back version=0.2.1 reason=rolled back: 3 failed boots of 0.2.1",
        "kubesolo-update: ready version=0.1.0 slot=A confirmed=1",
    ]
    assert world.run("apply") == 11
    assert str(world.state()["last_error"]).startswith("quarantine: 0.2.1 is quarantined")
    assert world.run("quarantine", "clear", BAD.digest) == 0
    assert world.run("apply") == 0


def test_a_second_boot_after_the_rollback_says_nothing_new(world: World) -> None:
    world.update(BAD)
    for _ in range(4):
        world.power_on()
    world.boot_service()
    before = world.state(), world.history()
    assert world.power_on() == "A"
    assert world.boot_service() == 0
    assert (world.state(), world.history()) == before


def test_failing_health_check_spends_tries_and_then_rolls_back(world: World) -> None:
    world.update(BAD)
    world.break_disk()
    for failures in (1, 2):
        assert world.power_on() == "B"
        assert world.boot_service() is None
        assert world.state()["health_check_failures"] == failures
        assert str(world.state()["last_error"]).startswith("unhealthy: disk_writable: ")
        assert world.console()[0].startswith(
            f"kubesolo-update: unhealthy version=0.2.1 slot=B cause=health failures={failures} "
        )
    assert world.power_on() == "B"
    assert world.boot_service() is None
    assert world.env()["active_slot"] == "A"
    assert world.env()["boot_success"] == "1"
    world.mend_disk()
    assert world.power_on() == "A"
    assert world.boot_service() == 0
    state = world.state()
    assert state["phase"] == "rolled_back"
    assert str(state["last_error"]).startswith("rolled back: 3 failed health checks of 0.2.1: disk")
    assert world.quarantined() == [BAD.digest]


def test_a_rollback_by_itself_does_not_need_the_quarantine(world: World) -> None:
    """Nobody is there to repair the list; the node would stay up on a release that failed."""
    world.write_file(world.paths.config, "server=http://s/\npubkey=/p\nauto_rollback_after=1\n")
    world.update(BAD)
    world.break_disk()
    world.write_file(world.paths.quarantine, "garbage")
    assert world.power_on() == "B"
    assert world.boot_service() is None
    assert world.env()["active_slot"] == "A"
    assert world.quarantined() == [BAD.digest]


def test_nothing_is_armed_where_the_boot_loader_cannot_count(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """It boots the confirmed slot then, and whoever asks again would reboot in vain for ever."""
    world.offered = GOOD
    assert world.run("apply") == 0
    for phase in ("staged", "activated"):
        assert world.state()["phase"] == phase
        boot = json.loads(Path(world.paths.boot).read_text())
        world.write_file(world.paths.boot, json.dumps({**boot, "env": "unsaved"}))
        assert world.run("activate") == 1
        assert "could not write its environment" in capsys.readouterr().err
        world.write_file(world.paths.boot, json.dumps(boot))
        assert world.run("activate") == 0
    assert world.env()["active_slot"] == "B"


def test_without_auto_rollback_the_boot_counter_decides(world: World) -> None:
    world.write_file(world.paths.config, "server=http://s/\npubkey=/p\nauto_rollback_after=0\n")
    world.update(BAD)
    world.break_disk()
    for _ in range(3):
        assert world.power_on() == "B"
        assert world.boot_service() is None
    world.mend_disk()
    assert world.power_on() == "A"
    assert world.boot_service() == 0
    assert world.state()["last_error"] == "rolled back: 3 failed boots of 0.2.1"


def test_a_confirmed_slot_is_never_rolled_back_nor_rebooted(world: World) -> None:
    world.update(GOOD)
    world.power_on()
    world.boot_service()
    world.break_disk()
    before = world.env()
    reboots = world.reboots
    for _ in range(5):
        assert world.power_on() == "B"
        assert world.boot_service() == 0
    assert world.run("healthcheck", "--auto-rollback-after", "1") == 1
    assert world.env() == before
    assert world.reboots == reboots


def test_a_power_cut_on_trial_spends_one_try(world: World) -> None:
    world.update(GOOD)
    world.power_on()
    assert world.env()["boot_counter"] == "2"
    world.power_on()
    assert world.env()["boot_counter"] == "1"
    assert world.boot_service() == 0
    assert world.state()["phase"] == "success"


def test_a_damaged_slot_is_not_committed(world: World) -> None:
    world.update(BAD)
    world.power_on()
    path = world.directory("B") / "root.squashfs"
    data = bytearray(path.read_bytes())
    data[10] ^= 1
    path.write_bytes(data)
    assert world.boot_service() is None
    assert world.env()["boot_success"] == "0"
    assert "slot_integrity: root.squashfs reads back as" in world.console()[0]


def test_another_slot_than_the_one_on_trial_is_never_committed(world: World) -> None:
    world.update(BAD)
    assert world.power_on(slot="A") == "A"
    assert world.boot_service() == 0
    assert world.env()["boot_success"] == "0"
    assert world.console() == ["kubesolo-update: ready version=0.1.0 slot=A confirmed=0"]
    report = json.loads(Path(world.paths.report).read_text())
    assert report["problems"] == ["slot A was booted although slot B is the active one"]


@pytest.mark.parametrize("content", [None, b"", b"garbage" * 10, b"\0" * 1024])
def test_an_unreadable_environment_is_repaired_by_a_good_boot(
    world: World, content: bytes | None
) -> None:
    if content is None:
        world.env_path.unlink()
    else:
        world.env_path.write_bytes(content)
    world.power_on()
    assert world.boot_service() == 0
    assert world.env() == {"active_slot": "A", "boot_counter": "3", "boot_success": "1"}
    report = json.loads(Path(world.paths.report).read_text())
    assert report["problems"][0].startswith("the boot environment is ")
    assert world.state_or_none() is None


def test_an_unreadable_environment_never_causes_a_reboot_loop(world: World) -> None:
    world.fill("B", GOOD)
    world.env_path.write_bytes(b"")
    world.break_disk()
    world.power_on()
    assert world.boot_service() == 1
    assert world.reboots == 0
    assert world.env_path.read_bytes() == b"", "a slot was confirmed that nobody tried"
    assert world.console()[0].startswith("kubesolo-update: unhealthy version=0.1.0 slot=A")


def test_an_environment_lost_in_a_trial_does_not_blame_the_release(world: World) -> None:
    world.update(GOOD)
    world.env_path.write_bytes(b"")
    assert world.power_on() == "A"
    assert world.boot_service() == 0
    assert world.state()["last_error"] == (
        "rolled back: the boot environment was lost in the trial of 0.2.0"
    )
    assert world.quarantined() == []
    assert world.run("apply") == 0


def test_an_unhealthy_trial_without_environment_goes_back_at_once(world: World) -> None:
    world.update(BAD)
    world.power_on()
    world.env_path.write_bytes(b"")
    world.break_disk()
    assert world.boot_service() is None
    assert world.env()["active_slot"] == "A"
    assert world.env()["boot_success"] == "1"


def test_a_foreign_latin_1_variable_costs_a_trial_no_try(world: World) -> None:
    world.update(BAD)
    block = world.env_path.read_bytes()
    world.env_path.write_bytes((block.rstrip(b"#") + b"title=K\xf6ln\n").ljust(1024, b"#"))
    world.break_disk()
    for _ in range(2):
        world.power_on()
        assert world.boot_service() is None
        assert world.env()["active_slot"] == "B"
    world.power_on()
    assert world.boot_service() is None
    assert world.env()["active_slot"] == "A"
    assert world.quarantined() == [BAD.digest]
    assert b"title=K\xf6ln\n" in world.env_path.read_bytes()


def test_a_trial_whose_block_cannot_be_written_is_begun_anew(world: World) -> None:
    """The boot loader came back without counting; without a repair it would do so for ever."""
    world.update(GOOD)
    block = world.env_path.read_bytes()
    world.env_path.write_bytes(block.rstrip(b"#").ljust(1024, b"\0"))
    assert world.power_on() == "A"
    assert world.boot_service() == 0
    assert world.env_path.read_bytes() == block
    assert world.state()["phase"] == "activated"
    assert world.quarantined() == []
    assert world.power_on() == "B"
    assert world.boot_service() == 0
    assert world.env()["boot_success"] == "1"


def test_an_odd_block_of_a_confirmed_boot_is_reported_and_left_alone(world: World) -> None:
    """Nothing hangs on it, so neither is the boot judged nor the partition written."""
    odd = world.env_path.read_bytes().rstrip(b"#").ljust(1024, b"\0")
    world.env_path.write_bytes(odd)
    world.power_on()
    world.break_disk()
    assert world.boot_service() == 0
    assert world.env_path.read_bytes() == odd
    report = json.loads(Path(world.paths.report).read_text())
    assert report["confirmed"]
    assert [p for p in report["problems"] if "the next write repairs it" in p]
    world.mend_disk()
    world.update(GOOD)
    assert world.power_on() == "B"


def test_no_way_back_stays_up(world: World) -> None:
    world.update(BAD)
    (world.directory("A") / "manifest.json").unlink()
    world.break_disk()
    for _ in range(2):
        world.power_on()
        world.boot_service()
    world.power_on()
    reboots = world.reboots
    assert world.boot_service() == 1
    assert world.reboots == reboots
    assert world.env()["active_slot"] == "B"
    assert "no way back" in world.console()[0]


def test_a_node_that_was_rescued_from_an_empty_slot_can_update_again(world: World) -> None:
    world.set_env(active_slot="B", boot_counter="0", boot_success="1")
    world.power_on(slot="A")
    assert world.boot_service() == 0
    assert (world.env()["active_slot"], world.env()["boot_success"]) == ("A", "1")
    report = json.loads(Path(world.paths.report).read_text())
    assert report["problems"] == ["slot A was booted although slot B is the active one"]
    world.update(GOOD)
    assert world.power_on() == "B"


def test_a_rescued_node_that_is_unhealthy_stays_up(world: World) -> None:
    world.set_env(active_slot="B", boot_counter="0", boot_success="1")
    world.power_on(slot="A")
    world.break_disk()
    before = world.env()
    assert world.boot_service() == 1
    assert (world.env(), world.reboots) == (before, 0)


def test_choosing_the_other_good_slot_by_hand_is_for_this_boot_only(world: World) -> None:
    world.update(GOOD)
    world.power_on()
    world.boot_service()
    before = world.env()
    world.power_on(slot="A")
    assert world.boot_service() == 0
    assert world.env() == before
    assert world.run("rollback") == 0, "an operator may make it last"
    assert world.env()["active_slot"] == "A"
    assert world.quarantined() == [GOOD.digest]


def test_manual_rollback_of_a_confirmed_release(world: World) -> None:
    world.update(GOOD)
    world.power_on()
    world.boot_service()
    assert world.run("rollback", "--reboot") is None
    assert world.env()["active_slot"] == "A"
    assert world.state()["last_error"] == "manual rollback"
    assert world.power_on() == "A"
    assert world.boot_service() == 0
    assert world.state()["phase"] == "rolled_back"
    assert world.quarantined() == [GOOD.digest]


def test_manual_rollback_of_an_armed_release_lets_it_go(world: World) -> None:
    world.offered = GOOD
    assert world.run("apply") == 0
    assert world.run("activate") == 0
    assert world.run("rollback") == 0
    assert world.env()["active_slot"] == "A"
    assert world.env()["boot_success"] == "1"
    assert world.quarantined() == []
    assert world.run("apply") == 0


def test_rollback_refuses_an_empty_slot(world: World) -> None:
    before = world.env()
    assert world.run("rollback") == 1
    assert world.env() == before


def test_rollback_refuses_a_slot_that_rolled_back_itself(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.update(BAD)
    for _ in range(4):
        world.power_on()
    world.boot_service()
    before = world.env()
    assert world.run("rollback") == 1
    assert "quarantined" in capsys.readouterr().err
    world.run("quarantine", "clear", "--all")
    assert world.run("rollback") == 1
    assert "has not passed a health check" in capsys.readouterr().err
    assert world.env() == before


def test_rollback_refuses_a_slot_that_was_only_staged(world: World) -> None:
    world.offered = GOOD
    assert world.run("apply") == 0
    before = world.env()
    assert world.run("rollback") == 1
    assert world.env() == before


def test_what_was_kept_for_a_rollback_is_kept_anew_after_a_while(world: World) -> None:
    world.offered = GOOD
    assert world.run("apply") == 0
    assert world.run("activate") == 0
    armed = world.env()

    def taken_at() -> str:
        return str(json.loads(Path(world.paths.baseline).read_text())["taken_at"])

    first = taken_at()
    world.clock.pause(60)
    assert world.run("activate") == 0
    assert taken_at() == first
    world.clock.pause(3600)
    assert world.run("activate") == 0
    assert taken_at() > first
    assert world.env() == armed


def test_apply_is_refused_while_the_passive_slot_is_needed(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.update(GOOD)
    listing = sorted(p.name for p in world.directory("A").iterdir())
    capsys.readouterr()
    assert world.run("apply", "--json") == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "update-pending"
    world.power_on()
    assert world.run("apply", "--json") == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "unconfirmed-boot"
    assert sorted(p.name for p in world.directory("A").iterdir()) == listing


def test_apply_after_choosing_a_slot_by_hand_spares_the_active_slot(world: World) -> None:
    world.update(GOOD)
    world.power_on()
    world.boot_service()
    world.power_on(slot="A")
    world.offered = FakeRelease("0.3.0")
    before = (world.directory("B") / "manifest.json").read_bytes()
    assert world.run("apply") == 1
    assert (world.directory("B") / "manifest.json").read_bytes() == before


def test_an_interrupted_apply_leaves_the_active_slot_alone_and_can_be_repeated(
    world: World,
) -> None:
    before = {p.name: p.read_bytes() for p in world.directory("A").iterdir()}
    env = world.env_path.read_bytes()
    world.offered = GOOD
    world.fetch_errors[3] = AgentError("the server went away", code="server-unreachable")
    assert world.run("apply") == 1
    assert world.state()["phase"] == "failed"
    assert world.state()["last_error"] == "server-unreachable: the server went away"
    assert not (world.directory("B") / "manifest.json").exists()
    assert world.run("activate") == 1
    assert world.run("apply") == 0
    assert world.state()["attempt_count"] == 2
    assert sorted(world.fetched) == sorted(ARTIFACT_NAMES)
    assert {p.name: p.read_bytes() for p in world.directory("A").iterdir()} == before
    assert world.env_path.read_bytes() == env


def test_equal_artifacts_are_copied_from_the_running_slot(world: World) -> None:
    release = FakeRelease("0.2.0")
    release.content["vmlinuz"] = FakeRelease("0.1.0").content["vmlinuz"]
    world.offered = release
    assert world.run("apply") == 0
    assert sorted(world.fetched) == ["initramfs.img", "kernel.env", "root.squashfs"]
    assert (world.directory("B") / "vmlinuz").read_bytes() == release.content["vmlinuz"]


def test_an_artifact_damaged_in_the_running_slot_is_downloaded(world: World) -> None:
    release = FakeRelease("0.2.0")
    release.content["vmlinuz"] = FakeRelease("0.1.0").content["vmlinuz"]
    path = world.directory("A") / "vmlinuz"
    path.write_bytes(b"X" + path.read_bytes()[1:])
    world.offered = release
    assert world.run("apply") == 0
    assert "vmlinuz" in world.fetched
    assert (world.directory("B") / "vmlinuz").read_bytes() == release.content["vmlinuz"]


def test_a_disk_that_keeps_other_bytes_fails_the_attempt(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from product.agent.slots.writer import SlotWriter

    real = SlotWriter._sync

    def rot(writer: SlotWriter, manifest: Manifest) -> None:
        real(writer, manifest)
        path = world.directory("B") / "initramfs.img"
        path.write_bytes(b"X" + path.read_bytes()[1:])

    monkeypatch.setattr(SlotWriter, "_sync", rot)
    world.offered = GOOD
    assert world.run("apply") == 1
    assert str(world.state()["last_error"]).startswith("digest-mismatch: initramfs.img reads back")
    assert not (world.directory("B") / "manifest.json").exists()


def test_a_damaged_passive_file_system_is_made_anew(world: World) -> None:
    for broken in (world.volumes.damaged, world.volumes.unmountable):
        broken.add(SLOT_DEVICES["B"])
        world.offered = GOOD
        assert world.run("apply") == 0
        assert world.volumes.made.pop() == (SLOT_DEVICES["B"], "KSOLOB")
        assert not world.volumes.made


def test_a_mounted_passive_slot_is_not_written(world: World) -> None:
    world.volumes.elsewhere[SLOT_DEVICES["B"]] = "/mnt"
    world.offered = GOOD
    assert world.run("apply") == 1
    assert "is mounted at /mnt" in str(world.state()["last_error"])
    assert list(world.directory("B").iterdir()) == []


def test_up_to_date(world: World) -> None:
    world.offered = FakeRelease("0.1.0")
    assert world.run("check") == 0
    assert world.run("apply") == 0
    assert (world.state()["phase"], world.state()["attempt_count"]) == ("idle", 0)


def test_check_changes_no_state(world: World) -> None:
    world.offered = GOOD
    assert world.run("check") == 10
    assert world.run("apply", "--dry-run") == 10
    assert not Path(world.paths.state).exists()
    assert not Path(world.paths.history).exists()
    assert list(world.directory("B").iterdir()) == []


def test_activate_refuses_what_was_not_staged_or_changed_since(world: World) -> None:
    assert world.run("activate") == 1
    world.offered = GOOD
    world.run("apply")
    world.fill("B", FakeRelease("0.2.0", salt="other"))
    assert world.run("activate") == 1
    (world.directory("B") / "vmlinuz").write_bytes(b"short")
    assert world.run("activate") == 1
    assert world.env()["active_slot"] == "A"


def test_attempts_are_counted_from_failed_too(world: World) -> None:
    world.offered = GOOD
    world.server_error = AgentError("no answer", code="server-unreachable")
    for count in (1, 2, 3):
        assert world.run("apply") == 1
        assert world.state()["attempt_count"] == count
    world.server_error = None
    world.update(GOOD)
    world.power_on()
    world.boot_service()
    world.offered = FakeRelease("0.3.0")
    assert world.run("apply") == 0
    assert (world.state()["attempt_count"], world.state()["from_version"]) == (1, "0.2.0")


def test_the_window_is_asked_before_the_network_and_again_before_the_reboot(
    world: World,
) -> None:
    window = ("--maintenance-window", "11:00-13:00")
    world.offered = GOOD
    world.clock.minute = 14 * 60
    world.server_error = AgentError("the network was used", code="server-unreachable")
    assert world.run("apply", *window) == 11
    assert str(world.state()["last_error"]).startswith("maintenance_window: it is 14:00")
    world.server_error = None
    assert world.run("apply", *window, "--force") == 0
    before = world.env()
    assert world.run("activate", "--reboot", *window) == 11
    assert world.env() == before
    assert world.reboots == 0
    assert world.run("activate", *window) == 0
    assert world.run("activate", "--reboot", *window) == 11
    assert world.reboots == 0
    world.clock.minute = 12 * 60
    assert world.run("activate", "--reboot", *window) is None


def test_a_label_set_since_holds_back_the_reboot_by_hand(
    world: World, cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    world.offered = GOOD
    assert world.run("apply") == 0
    cluster.api.labels = {BLOCK_LABEL: "true"}
    before = world.env()
    assert world.run("activate", "--reboot") == 11
    assert f"the label {BLOCK_LABEL}=true" in capsys.readouterr().err
    assert (world.env(), world.reboots) == (before, 0)
    # Arming alone disturbs nobody.
    assert world.run("activate") == 0
    assert world.run("activate", "--reboot") == 11
    assert world.reboots == 0
    assert world.run("activate", "--reboot", "--force") is None
    assert "gate node_block_label: bypassed (--force was given)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "line", ["maintenance_windw=1:00-2:00", "maintenance_window=nightly", "channel=beta # ours"]
)
def test_a_file_with_a_mistake_changes_nothing_but_a_boot_is_judged(
    world: World, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    world.offered = GOOD
    assert world.run("apply") == 0
    before = world.env()
    good = Path(world.paths.config).read_text()
    Path(world.paths.config).write_text(f"{good}{line}\n")
    for command in (("apply",), ("activate",), ("activate", "--reboot"), ("check",)):
        assert world.run(*command) == 1
        assert "update.conf line" in capsys.readouterr().err
    assert (world.env(), world.reboots) == (before, 0)
    Path(world.paths.config).write_text(good)
    assert world.run("activate") == 0
    Path(world.paths.config).write_text(f"{good}{line}\n")
    world.power_on()
    assert world.boot_service() == 0
    assert world.env()["boot_success"] == "1"


def test_a_return_reboots_by_itself_only_where_the_window_is_known(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.update(GOOD)
    world.power_on()
    world.boot_service()
    before = world.reboots
    with Path(world.paths.config).open("a") as config:
        config.write("maintenance_windw=1:00-2:00\n")
    assert world.run("rollback", "--reboot") == 11
    assert "the maintenance window is not known" in capsys.readouterr().err
    assert world.reboots == before
    assert world.run("rollback", "--reboot", "--force") is None


def test_the_window_may_close_between_arming_and_reboot(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from product.agent.bootloader.grub import GrubBootEnv

    world.offered = GOOD
    world.run("apply")
    real = GrubBootEnv.arm

    def slow(env: GrubBootEnv, slot: str, trial: str) -> None:
        world.clock.minute = 13 * 60
        real(env, slot, trial)

    monkeypatch.setattr(GrubBootEnv, "arm", slow)
    assert world.run("activate", "--reboot", "--maintenance-window", "11:00-13:00") == 11
    assert world.reboots == 0


def test_nothing_is_armed_beside_a_copy_of_the_boot_disk(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their identity is one, so the next boot could take the kernel of one and the data of both."""
    world.offered = GOOD
    assert world.run("apply") == 0
    env = world.env_path.read_bytes()
    monkeypatch.setattr(find, "copies_of", lambda device, root: [f"/dev/sda1 of {device}"])
    assert world.run("activate") == 1
    assert "/dev/sda1 of vda1 is a copy of the boot disk /dev/vda" in capsys.readouterr().err
    assert world.env_path.read_bytes() == env
