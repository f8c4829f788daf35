"""A disk with the same labels is plugged in beside the node's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from harness.faults.stick import CONTROLLER
from harness.faults.twin import SLOT, SecondDisk
from harness.pytest_plugin.image import ImageUnderTest
from harness.pytest_plugin.scenario import scenario
from harness.qemu.arch import Arch
from harness.qemu.devices import DiskBus
from harness.target.node import Node, State
from scenarios.releases import Releases
from scenarios.steps import FAILED, Update, read_data, write_data

Serve = Callable[..., Update]

# Partitions of the system's name for its boot loader's, of all disks.
_FOUND = """
until [ $(cat /sys/class/block/*/uevent | grep -c PARTNAME=KSOLOEFI) = 2 ]; do sleep 0.2; done
"""


@scenario(extra=SLOT)
def test_a_disk_with_the_same_labels_is_left_alone(
    node: Node,
    images: Mapping[str, ImageUnderTest],
    arch: Arch,
    releases: Releases,
    serve: Serve,
) -> None:
    """The node updates and boots its own, though the other is there as soon as it."""
    node.at(State.READY, slot="A")
    write_data(node, "kept")
    update = serve(releases.good)
    with SecondDisk(node.machine, images[arch].disk, bus=DiskBus.VIRTIO) as other:
        node.succeed(_FOUND)
        ready = update.install()
        assert (ready.version, ready.slot, ready.confirmed) == ("0.2.0", "B", True)
        early = node.succeed("cat /run/kubesolo/early").text.splitlines()
        assert f"disk={node.disk}" in early, early
        assert read_data(node) == "kept"
        assert node.status().problems == []
        assert other.writes == 0, "the other disk was written"


@scenario(extra=CONTROLLER)
def test_a_copy_of_the_running_disk_holds_the_update_until_it_is_unplugged(
    node: Node, releases: Releases, serve: Serve
) -> None:
    """Nothing would tell the two apart at the next boot: the node says so while it can."""
    node.at(State.READY, slot="A")
    update = serve(releases.good)
    with SecondDisk(node.machine) as other:
        node.succeed(_FOUND)
        update.apply()
        done = node.fail(["kubesolo-update", "activate"], exit=FAILED)
        assert "is a copy of the boot disk" in done.stderr.decode(), done
        (problem,) = node.status().problems
        assert "copy of the boot disk" in problem
        assert other.writes == 0, "the copy was written"
    assert node.status().problems == []
    update.activate()
    node.reboot()
    ready = node.wait_ready()
    assert (ready.version, ready.slot, ready.confirmed) == ("0.2.0", "B", True)
