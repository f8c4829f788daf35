"""Planned stops."""

from __future__ import annotations

from harness.faults.disk import HeldDisk
from harness.journal.patterns import Pattern
from harness.pytest_plugin.scenario import scenario
from harness.target.node import Node, State
from scenarios.steps import read_data, write_data

# From the request until a stop that hangs is forced.
FORCED = 90.0


@scenario(tier="core", core_arch="aarch64")
def test_a_disk_that_does_not_answer_holds_no_reboot(node: Node) -> None:
    """What hangs with it is not waited for."""
    node.at(State.READY)
    write_data(node, "kept")
    # Not flushed: the stop has something to write.
    node.succeed("echo late > /var/lib/kubesolo/late")
    since = node.journal.cursor
    # The kernel says so of whatever waits for the disk.
    with node.tolerating(Pattern.HUNG_TASK), HeldDisk(node.machine):
        # No reply is awaited.
        node.target.channel.start(["/sbin/reboot"], limit=None)
        node.wait_console("the stop takes too long: forced", seconds=FORCED, since=since)
        node.target.wait_reset("the stop", node.deadline(FORCED), since)
    ready = node.wait_ready()
    assert (ready.slot, ready.confirmed) == ("A", True)
    assert read_data(node) == "kept"
