"""Disks of hypervisors, and the disk out of an OCI image, become nodes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.faults.http import WebServer
from harness.pytest_plugin.scenario import scenario
from harness.qemu.arch import Arch
from harness.target.node import Node
from product.image.cache import file_sha256
from product.image.media import kinds
from product.image.media.from_oci import disk_from
from product.image.media.kinds import Kind
from scenarios.releases import Releases
from scenarios.steps import Update, offer

if TYPE_CHECKING:
    from conftest import Images

Machines = Callable[..., Node]
META = "instance-id: shop-12-1\n"


@pytest.fixture
def medium(images: Images, arch: Arch, tmp_path: Path) -> Callable[[Kind], Path]:
    """Build a medium of the image under test."""

    def make(kind: Kind) -> Path:
        builder = images.builder(arch.value)
        version = images[arch.value].slot.version
        return kinds.build(kind, builder, version, tmp_path).path

    return make


def judged(node: Node) -> None:
    """The node has booted from the disk, judged itself well, and uses all of the disk."""
    ready = node.wait_ready()
    assert (ready.version, ready.slot, ready.confirmed) == ("0.1.0", "A", True)
    assert node.status().problems == []
    size = int(node.succeed("df -k /var/lib/kubesolo | tail -n 1 | awk '{print $2}'").text)
    assert size > 6 << 20, f"the data partition has {size} KiB of the disk's 8 GiB"


@scenario()
def test_a_qcow2_disk_takes_its_seed_and_an_update(
    machine_factory: Machines,
    medium: Callable[[Kind], Path],
    seed: Callable[..., Path],
    releases: Releases,
    webserver: Callable[[Path], WebServer],
) -> None:
    """As in a cloud: the disk is everybody's, and a NoCloud seed makes it this node's."""
    files = {"user-data": "#cloud-config\nhostname: shop-12\n", "meta-data": META}
    node = machine_factory(image=medium(Kind.QCOW2), disk_size_mib=8192, seed=seed(files))
    node.boot()
    judged(node)
    assert node.succeed("hostname").text == "shop-12"
    server = webserver(releases.good.repository)
    offer(node, releases.good, server)
    ready = Update(node, releases.good, server).install()
    assert (ready.version, ready.slot, ready.confirmed) == ("0.2.0", "B", True)
    assert node.succeed("hostname").text == "shop-12"


@scenario()
@pytest.mark.parametrize("kind", [Kind.VMDK, Kind.VHDX])
def test_a_disk_of_another_hypervisor_becomes_a_node(
    kind: Kind, machine_factory: Machines, medium: Callable[[Kind], Path]
) -> None:
    """Each format is read by QEMU itself, block by block as the node asks for it."""
    node = machine_factory(image=medium(kind), disk_size_mib=8192)
    node.boot()
    judged(node)


@scenario()
def test_the_disk_out_of_an_oci_image_becomes_a_node(
    machine_factory: Machines,
    medium: Callable[[Kind], Path],
    images: Images,
    arch: Arch,
    tmp_path: Path,
) -> None:
    """It is the image to the last byte, so what is proven of that is proven of it."""
    disk, work = tmp_path / "disk.img", tmp_path / "work"
    work.mkdir()
    builder = images.builder(arch.value)
    disk_from(medium(Kind.OCI), builder.arch, builder.tools, work, disk)
    assert file_sha256(disk) == images[arch.value].sha256
    node = machine_factory(image=disk, disk_size_mib=8192)
    node.boot()
    judged(node)
