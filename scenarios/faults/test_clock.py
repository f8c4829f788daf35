"""The clock of a running node jumps."""

from __future__ import annotations

from collections.abc import Callable

from harness.faults.clock import ClockJump
from harness.pytest_plugin.scenario import scenario
from harness.target.node import Node, State
from scenarios.releases import Releases
from scenarios.steps import AVAILABLE, FAILED, REFUSED, Update, configure

Serve = Callable[..., Update]

HOUR, DAY = 3600.0, 86400.0
# Longer than any metadata of the releases is good for.
TOO_LATE = 60 * DAY


@scenario()
def test_metadata_is_judged_by_the_clock_and_a_jump_leaves_nothing_behind(
    node: Node, releases: Releases, serve: Serve
) -> None:
    """Forward all has ended, and the message shows the clock; back nothing has."""
    node.at(State.READY, slot="A")
    update = serve(releases.good)
    update.check(exit=AVAILABLE)
    with ClockJump(node.target, TOO_LATE):
        done = node.fail(["kubesolo-update", "apply"], exit=FAILED)
        assert "this node's clock" in done.stderr.decode(), done
        assert node.status().update.last_error.startswith("expired: ")
    with ClockJump(node.target, -TOO_LATE):
        update.check(exit=AVAILABLE)
    update.apply()
    status = node.status()
    assert (status.update.phase, status.update.last_error) == ("staged", None)


@scenario()
def test_a_window_opens_and_closes_with_the_clock(
    node: Node, releases: Releases, serve: Serve
) -> None:
    node.at(State.READY, slot="A")
    update = serve(releases.good)
    # An hour to either side of now.
    now = int(node.succeed("date +%s").text)
    begin, end = (node.succeed(f"date -d @{now + s} +%H:%M").text for s in (-3600, 3600))
    configure(node, maintenance_window=f"{begin}-{end}")
    for jump in (3 * HOUR, -3 * HOUR):
        with ClockJump(node.target, jump):
            done = node.fail(["kubesolo-update", "apply"], exit=REFUSED)
            assert "outside the maintenance window" in done.stderr.decode(), done
            assert not node.status().maintenance.open
    assert node.status().maintenance.open
    update.apply()
    assert node.status().update.phase == "staged"
