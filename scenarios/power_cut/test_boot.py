"""Power cuts before and in a boot."""

from __future__ import annotations

from collections.abc import Callable

from harness.pytest_plugin.scenario import scenario
from harness.target.node import Node, State
from scenarios.releases import Releases
from scenarios.steps import Update, boot_environment, read_data, write_data

Serve = Callable[..., Update]

# Ten moments of a boot, in its order: what the console says when the plug is pulled.
MOMENTS = (
    r"kubesolo: boot slot=A",
    r"kubesolo: stage initramfs",
    r"kubesolo: stage switch_root",
    r"enter stage: /etc/runit/1",
    r"kubesolo: stage 00-mount",
    r"kubesolo: stage 20-data",
    r"kubesolo: stage 30-modules",
    r"kubesolo: stage 90-services",
    r"enter stage: /etc/runit/2",
    r"kubesolo-update: ready",
)


@scenario(tier="core")
def test_cuts_after_arming_and_in_the_unconfirmed_boot(
    node: Node, releases: Releases, serve: Serve
) -> None:
    """Armed is armed: the next boot, planned or not, tries the new slot. A cut in that one spends a
    try."""
    node.at(State.READY, slot="A")
    write_data(node, "kept")
    serve(releases.good).stage()
    node.power_cut()
    with node.expect_boots(2) as boots:
        since = node.journal.cursor
        node.power_on()
        node.wait_console(r"kubesolo: stage 20-data", since=since)
        node.power_cut()
        ready = node.boot()
    assert boots.slots == ["B", "B"]
    assert boots.counters == [2, 1]
    assert boots.causes == [[], []], "the cut alone spends the first try"
    assert (ready.version, ready.slot, ready.confirmed) == ("0.2.0", "B", True)
    assert node.status().update.phase == "success"
    assert read_data(node) == "kept"


@scenario()
def test_a_confirmed_slot_survives_ten_cuts(node: Node) -> None:
    node.at(State.READY, slot="A")
    write_data(node, "kept")
    before = boot_environment(node)
    node.power_cut()
    with node.expect_boots(11) as boots:
        for moment in MOMENTS:
            since = node.journal.cursor
            node.power_on()
            node.wait_console(moment, since=since)
            node.power_cut()
        ready = node.boot()
    assert boots.slots == ["A"] * 11
    assert boots.successes == [True] * 11
    assert (ready.slot, ready.confirmed) == ("A", True)
    assert boot_environment(node) == before, "a confirmed boot writes nothing"
    status = node.status()
    assert status.boot.data == "persistent"
    assert status.problems == []
    assert read_data(node) == "kept"
