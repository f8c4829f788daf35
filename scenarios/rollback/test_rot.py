"""A slot that worked and whose bytes rotted later."""

from __future__ import annotations

from collections.abc import Callable

from harness.pytest_plugin.scenario import scenario
from harness.target.node import Node
from scenarios.releases import Releases
from scenarios.steps import Update, failed_for, on_slot, read_data, write_data

Begin = Callable[..., Update]


@scenario()
def test_a_confirmed_slot_that_rots_yields_to_the_other(
    node: Node, releases: Releases, begin_after: Begin
) -> None:
    update = begin_after(Update.install, releases.good)
    assert node.status().boot.slot == "B"
    write_data(node, "kept")
    # The superblock: the file is there, and nothing mounts it.
    rot = "dd if=/dev/urandom of=/run/look/root.squashfs bs=4096 count=1 conv=notrunc"
    node.succeed(on_slot(node, "B", rot))
    with node.expect_boots(2) as boots:
        node.reboot()
    assert boots.slots == ["B", "A"]
    assert boots.successes == [True, False]
    assert boots.saying("slot B yields to slot A") == [True, False]
    ready = node.wait_ready()
    failed_for(boots, "boot failed: root.squashfs of slot B is corrupt", times=1)
    assert (ready.version, ready.slot, ready.confirmed) == ("0.1.0", "A", True)
    assert read_data(node) == "kept"
    problems = node.status().problems
    assert any("slot B could not be started" in problem for problem in problems), problems
    # An update heals it, and the report ends.
    assert update.install().slot == "B"
    assert node.status().problems == []
