"""The A/B switch."""

from __future__ import annotations

from collections.abc import Callable

from harness.journal.patterns import Pattern
from harness.pytest_plugin.scenario import scenario
from harness.target.node import Node, State
from product.manifest import ARGUMENTS_NAME
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


@scenario()
def test_a_slot_brings_its_own_kernel_command_line(
    node: Node, releases: Releases, serve: Serve
) -> None:
    """Each boots with its own, and both with what the site adds."""
    node.at(State.READY, slot="A")
    node.succeed(
        f"mkdir -p /run/look && mount -t vfat {node.partition(1)} /run/look && "
        "echo 'set local_arguments=\"site.word=1\"' > /run/look/boot/local.cfg && "
        "umount /run/look && sync"
    )
    before = node.succeed("cat /proc/cmdline").text.split()
    block = (releases.good.slot.folder / ARGUMENTS_NAME).read_bytes()
    changed = block.replace(b" panic=1", b" panic=1 release.word=2", 1)[: len(block)]
    assert changed != block
    update = serve(releases.with_file("other-arguments", "0.2.0", ARGUMENTS_NAME, changed))
    assert update.install().slot == "B"
    found = node.succeed("cat /proc/cmdline").text.split()
    assert {"release.word=2", "site.word=1", "panic=1"} <= set(found), found
    node.succeed(["kubesolo-update", "rollback"])
    node.reboot()
    assert node.wait_ready().slot == "A"
    found = node.succeed("cat /proc/cmdline").text.split()
    assert "site.word=1" in found
    assert "release.word=2" not in found
    # Of a first boot GRUB says more, and the disk has another identity since.
    kept = [w for w in before if not w.startswith(("kubesolo.fresh=", "kubesolo.boot="))]
    assert set(kept) <= set(found)


@scenario()
def test_a_slot_without_a_command_line_spends_its_tries(
    node: Node, releases: Releases, serve: Serve
) -> None:
    """A kernel without ``panic=`` would stay where it fails."""
    node.at(State.READY, slot="A")
    serve(releases.with_file("no-arguments", "0.2.0", ARGUMENTS_NAME, b"#" * 1024)).stage()
    with node.tolerating(Pattern.GRUB), node.expect_boots(4) as boots:
        node.reboot()
        ready = node.wait_ready()
    assert boots.slots == ["B", "B", "B", "A"]
    assert (ready.version, ready.slot, ready.confirmed) == ("0.1.0", "A", True)
