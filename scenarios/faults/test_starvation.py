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
from scenarios.steps import APPLY_SECONDS, Update, configure, failed_for, slot_digests

Serve = Callable[..., Update]
Begin = Callable[..., Update]

STARVED_SECONDS = 600.0
# Less than the agent needs for itself, and enough for what the node runs besides.
LEFT_MIB = 24


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
def test_an_update_without_memory_is_not_half_applied(
    node: Node, releases: Releases, serve: Serve
) -> None:
    """The kernel ends the agent, or its update succeeds: nothing in between is offered."""
    node.at(State.READY, slot="A")
    update = serve(releases.good)
    before = slot_digests(node)
    with node.tolerating(Pattern.OOM_KILL), MemoryPressure(node.target, LEFT_MIB) as pressure:
        # What the kernel takes back of programs it reads again: that may take its time.
        done = node.run(["kubesolo-update", "apply"], seconds=APPLY_SECONDS)
        assert pressure.fired
    assert done.exit != 0, done
    not_offered(node)
    assert slot_digests(node)["A"] == before["A"]
    update.apply()
    assert node.status().update.phase == "staged"
