"""The node gets little processor time, or its watchdog is not fed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.faults.http import WebServer
from harness.faults.processor import CpuStarvation, WatchdogStarvation
from harness.pytest_plugin.scenario import scenario
from harness.target.node import Node, State
from scenarios.hardware.test_watchdog import PAUSE, RESET_SECONDS
from scenarios.releases import Releases
from scenarios.steps import Update, configure, failed_for

Serve = Callable[..., Update]
Begin = Callable[..., Update]

STARVED_SECONDS = 600.0


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
