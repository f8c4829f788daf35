"""What the kernel's command line asks for."""

from __future__ import annotations

import pytest

from harness.pytest_plugin.scenario import scenario
from harness.target.node import Node, State
from scenarios.steps import write_data

# A disk that lasts as long as QEMU runs: a temporary overlay over nothing.
SCSI = (
    "-drive", "if=none,id=more,snapshot=on,file.driver=null-co,file.size=256M,file.read-zeroes=on",
    "-device", "virtio-scsi-pci", "-device", "scsi-hd,drive=more",
)  # fmt: skip


def _add_argument(node: Node, argument: str) -> None:
    """As an operator does for good: for all slots, on the EFI partition."""
    node.succeed(
        f"mkdir -p /run/look && mount -t vfat {node.partition(1)} /run/look && "
        f"echo 'set local_arguments=\"{argument}\"' > /run/look/boot/local.cfg && "
        "umount /run/look && sync"
    )
    node.reboot()
    node.wait_ready()
    assert argument in node.succeed("cat /proc/cmdline").text.split()


@pytest.mark.machine(extra=SCSI)
@scenario(tier="core", core_arch="aarch64")
def test_data_may_lie_on_another_disk(node: Node) -> None:
    """On a controller of another kind than the boot disk's."""
    node.at(State.READY, slot="A")
    node.succeed("modprobe -a virtio_scsi sd_mod && until [ -b /dev/sda ]; do sleep 1; done")
    node.succeed("/usr/sbin/mke2fs -q -t ext4 -L edge-data /dev/sda")
    _add_argument(node, "kubesolo.data=LABEL=edge-data")
    assert node.succeed("grep ' /var/lib/kubesolo ' /proc/mounts").text.startswith("/dev/sda ")
    assert node.status().problems == []
    assert node.status().boot.data == "persistent"


@scenario()
def test_data_may_lie_on_another_partition(node: Node) -> None:
    """Which is not grown."""
    node.at(State.READY, slot="A")
    device = node.partition(3)
    _add_argument(node, f"kubesolo.data={device}")
    mounted = node.succeed("grep ' /var/lib/kubesolo ' /proc/mounts").text
    assert mounted.startswith(f"{device} ")
    assert node.status().problems == []
    assert node.status().boot.data == "persistent"


@scenario()
def test_data_devices_that_cannot_be_told_apart_are_named(node: Node) -> None:
    node.at(State.READY, slot="A")
    one, other = node.partition(3), node.partition(4)
    for device in (one, other):
        node.succeed(f"/usr/sbin/e2label {device} twice")
    _add_argument(node, "kubesolo.data=LABEL=twice")
    problems = node.status().problems
    assert any(f"LABEL=twice fits {one} and {other}" in text for text in problems), problems
    assert node.status().boot.data == "volatile"


@scenario(tier="core", core_arch="x86_64")
def test_a_data_device_that_is_missing_is_reported(node: Node) -> None:
    node.at(State.READY, slot="A")
    _add_argument(node, "kubesolo.data=/dev/vdz9")
    problems = node.status().problems
    assert any("/dev/vdz9" in problem for problem in problems), problems


@scenario()
def test_nothing_is_kept_where_nothing_shall_be(node: Node) -> None:
    node.at(State.READY, slot="A")
    write_data(node, "from before", "before")
    _add_argument(node, "kubesolo.nopersist")
    node.fail("test -e /var/lib/kubesolo/before")
    assert node.status().boot.data == "nopersist"


@scenario()
def test_every_applet_of_the_list_exists(node: Node) -> None:
    node.at(State.READY, slot="A")
    missing = node.succeed(
        "for name in $(cat /usr/lib/kubesolo/applets); do"
        '    command -v "$name" > /dev/null || echo "$name";'
        '    [ "$(readlink /usr/bin/$name)" = busybox ] || continue;'
        '    busybox --list | grep -qx "$name" || echo "$name"; done'
    ).text
    assert missing == ""
