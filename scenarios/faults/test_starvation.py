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
from scenarios.hardware.test_watchdog import PAUSE, RESET_SECONDS
from scenarios.held import apply_until_held
from scenarios.releases import Releases
from scenarios.steps import APPLY_SECONDS, Update, configure, failed_for

Serve = Callable[..., Update]
Begin = Callable[..., Update]

STARVED_SECONDS = 600.0
# Less than the largest file of a release has (42 MB), and enough for the programs that run.
SHORT_MIB = 32


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
def test_an_update_needs_no_memory_for_its_files(
    node: Node, releases: Releases, serve: Serve
) -> None:
    """What is downloaded goes to the disk block by block: less is left than the file has."""
    node.at(State.READY, slot="A")
    running, held = apply_until_held(serve(releases.good))
    with node.tolerating(Pattern.OOM_KILL), MemoryPressure(node.target, SHORT_MIB) as pressure:
        held.release()
        done = running.wait(node.deadline(APPLY_SECONDS))
        assert (done.exit, pressure.killed) == (0, 0), done
    assert node.status().update.phase == "staged"
