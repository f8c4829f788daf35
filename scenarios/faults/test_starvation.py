"""The node gets little processor time or memory, or its watchdog is not fed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.faults.http import WebServer
from harness.faults.memory import MemoryPressure
from harness.faults.processor import CpuStarvation, WatchdogStarvation
from harness.journal.patterns import Pattern
from harness.pytest_plugin.scenario import scenario
from harness.target.node import Node, State
from scenarios.faults.test_disk import not_offered
from scenarios.hardware.test_watchdog import PAUSE, RESET_SECONDS
from scenarios.releases import Releases
from scenarios.held import apply_until_held
from scenarios.steps import APPLY_SECONDS, Update, configure, failed_for, slot_digests

Serve = Callable[..., Update]
Begin = Callable[..., Update]

STARVED_SECONDS = 600.0
# Less than the agent has in use while it downloads.
SHORT_MIB = 16
# With room for the agent and a block of what it downloads, not for a file.
ENOUGH_MIB = 64


@scenario()
def test_a_starved_machine_updates(node: Node, releases: Releases, serve: Serve) -> None:
    """Three fifths of the time it stands still: nothing is taken for a hang or a dead server."""
    node.at(State.READY, slot="A")
    update = serve(releases.good)
    with node.expect_boots(1) as boots, CpuStarvation(node.machine, 0.4):
        node.succeed(["kubesolo-update", "apply"], seconds=STARVED_SECONDS)
        update.activate()
        node.reboot(seconds=STARVED_SECONDS)
        ready = node.wait_ready(seconds=STARVED_SECONDS)
    assert boots.slots == ["B"]
    assert (ready.version, ready.slot, ready.confirmed) == ("0.2.0", "B", True)


@scenario()
def test_a_trial_whose_watchdog_starves_spends_one_try(
    node: Node,
    releases: Releases,
    begin_after: Begin,
    webserver: Callable[[Path], WebServer],
    tmp_path: Path,
) -> None:
    """The reset is one failed boot, no more: the release is tried again, and is good."""
    (tmp_path / "healthy").write_text("")
    health = webserver(tmp_path)
    # No verdict comes meanwhile.
    waiting = health.fail("/healthy")
    begin_after(Update.stage, releases.good)
    configure(node, healthcheck_url=f"{health.url}/healthy", healthcheck_deadline="600")
    with node.expect_boots(2, seconds_each=RESET_SECONDS) as boots:
        node.reboot()
        waiting.wait_fired(node.deadline(RESET_SECONDS))
        node.target.channel.wait_up(node.deadline(RESET_SECONDS))
        with WatchdogStarvation(node.machine, PAUSE) as starving:
            starving.wait_fired(node.deadline(RESET_SECONDS))
        health.clear()
    ready = node.wait_ready()
    failed_for(boots, "^WATCHDOG$", times=1)
    assert boots.slots == ["B", "B"]
    assert boots.counters == [2, 1]
    assert (ready.version, ready.slot, ready.confirmed) == ("0.2.0", "B", True)


@scenario()
def test_a_machine_short_of_memory_ends_an_update_and_lives_on(
    node: Node, releases: Releases, serve: Serve
) -> None:
    """The kernel ends what takes most, rather than read programs from the disk over and over."""
    node.at(State.READY, slot="A")
    update = serve(releases.good)
    before = slot_digests(node)
    running, held = apply_until_held(update)
    with node.tolerating(Pattern.OOM_KILL), MemoryPressure(node.target, SHORT_MIB) as pressure:
        held.release()
        done = running.wait(node.deadline(APPLY_SECONDS))
        assert done.exit != 0, done
        assert pressure.killed > 0
        not_offered(node)
    assert slot_digests(node)["A"] == before["A"]
    assert node.status().problems == []
    update.apply()
    update.activate()
    node.reboot()
    ready = node.wait_ready()
    assert (ready.version, ready.slot, ready.confirmed) == ("0.2.0", "B", True)


@scenario()
def test_an_update_needs_no_memory_for_its_files(
    node: Node, releases: Releases, serve: Serve
) -> None:
    """What is downloaded goes to the disk block by block."""
    node.at(State.READY, slot="A")
    update = serve(releases.good)
    with node.tolerating(Pattern.OOM_KILL), MemoryPressure(node.target, ENOUGH_MIB) as pressure:
        update.apply()
        assert pressure.killed == 0
    assert node.status().update.phase == "staged"
