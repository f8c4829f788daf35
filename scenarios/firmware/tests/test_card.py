"""What the firmware's model reads of a disk, over real file systems."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from harness.errors import HarnessError
from product.disk.fat import FAT32_CLUSTERS
from product.image.build import DEFAULT_RECIPE, Builder, Image
from product.image.cache import Cache
from product.image.recipe import Arch
from product.image.tools import HostTools
from scenarios.firmware.card import Card
from scenarios.firmware.raspberry import RaspberryFirmware


@pytest.fixture(scope="module")
def image(cache: Cache, host_tools: HostTools) -> Image:
    """The appliance for this hardware."""
    builder = Builder(
        Arch.AARCH64, cache=cache, tools=host_tools, recipe=DEFAULT_RECIPE, hardware="rpi-tryboot"
    )
    return builder.image("0.1.0")


def overlay(image: Path, target: Path, tools: HostTools) -> int:
    """A qcow2 over the image, larger than it, as a machine has it; its size in bytes."""
    size = 2 << 30
    command = tools.argv(
        "qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(image), str(target),
        str(size),
    )  # fmt: skip
    subprocess.run(command, check=True)
    return size


def test_the_images_card_boots_slot_a(image: Image, host_tools: HostTools, tmp_path: Path) -> None:
    disk = tmp_path / "disk.qcow2"
    card = Card(disk, overlay(image.disk, disk, host_tools), host_tools, tmp_path / "card")
    assert set(card.volumes) == {1, 5, 6}
    assert all(volume.clusters >= FAT32_CLUSTERS for volume in card.volumes.values())
    boot = RaspberryFirmware().boot(card.volumes)
    assert boot.partition == 5
    loaded = card.load(boot)
    assert loaded.append.startswith("kubesolo.slot=A kubesolo.loader=tryboot ")
    assert loaded.kernel.read_bytes() == (image.slot.folder / "vmlinuz").read_bytes()
    assert loaded.initrd.read_bytes() == (image.slot.folder / "initramfs.img").read_bytes()


def test_a_disk_without_a_table(host_tools: HostTools, tmp_path: Path) -> None:
    empty, disk = tmp_path / "empty", tmp_path / "disk.qcow2"
    with empty.open("wb") as stream:
        os.truncate(stream.fileno(), 1 << 20)
    size = overlay(empty, disk, host_tools)
    with pytest.raises(HarnessError, match="reads no partition table"):
        Card(disk, size, host_tools, tmp_path / "card")
