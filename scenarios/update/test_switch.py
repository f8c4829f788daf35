"""The A/B switch."""

from __future__ import annotations

from collections.abc import Callable

from harness.pytest_plugin.scenario import scenario
from harness.target.node import Node, State
from scenarios.releases import Releases
from scenarios.steps import AVAILABLE, UP_TO_DATE, Update, read_data, slot_digests, write_data

Serve = Callable[..., Update]


@scenario(tier="core")
def test_two_updates_switch_to_the_other_slot_and_back(
    node: Node, releases: Releases, serve: Serve
) -> None:
    """Each is committed, and leaves the slot that it came from as it was."""
    node.at(State.READY, slot="A")
    write_data(node, "kept")
    first = releases.sign("two-in-a-row", releases.good.slot)
    update = serve(first)
    before = slot_digests(node)
    update.check(exit=AVAILABLE)
    update.stage()
    with node.expect_boots(1) as boots:
        node.reboot()
        ready = node.wait_ready()
    assert boots.slots == ["B"]
    assert boots.counters == [2]
    assert (ready.version, ready.slot, ready.confirmed) == ("0.2.0", "B", True)
    status = node.status()
    assert status.environment.active_slot == status.boot.slot == "B"
    assert status.update.phase == "success"
    assert (status.update.from_version, status.update.to_version) == ("0.1.0", "0.2.0")
    assert read_data(node) == "kept"
    between = slot_digests(node)
    assert between["A"] == before["A"]
    update.check(exit=UP_TO_DATE)
    second = releases.publish_next(first, releases.newer.slot)
    with node.expect_boots(1) as boots:
        ready = Update(node, second, update.server).install()
    assert boots.slots == ["A"]
    assert (ready.version, ready.slot, ready.confirmed) == ("0.3.0", "A", True)
    assert node.status().update.from_version == "0.2.0"
    assert slot_digests(node)["B"] == between["B"]
