"""The boot disk may hang on whatever real machines have."""

from __future__ import annotations

from collections.abc import Callable

from harness.pytest_plugin.scenario import scenario
from harness.qemu.arch import Firmware
from harness.qemu.devices import DiskBus
from harness.target.node import Node
from scenarios.releases import Releases
from scenarios.steps import Update

Serve = Callable[..., Update]


def _boots_and_updates(node: Node, releases: Releases, serve: Serve, disk: str) -> None:
    """From the factory's image to a judged update, all of it on this disk."""
    # Not every such device can be part of a snapshot.
    ready = node.boot()
    assert (ready.version, ready.slot, ready.confirmed) == ("0.1.0", "A", True)
    early = node.succeed("cat /run/kubesolo/early").text.splitlines()
    assert {f"disk=/dev/{disk}", "data=persistent"} <= set(early), early
    ready = serve(releases.good).install()
    assert (ready.version, ready.slot, ready.confirmed) == ("0.2.0", "B", True)
    status = node.status()
    assert status.update.phase == "success"
    assert status.environment.boot_success


@scenario(disk_bus=DiskBus.NVME)
def test_nvme(node: Node, releases: Releases, serve: Serve) -> None:
    _boots_and_updates(node, releases, serve, "nvme0n1")


# QEMU's UEFI firmware of aarch64 has no driver for SATA disks.
@scenario(arch="x86_64", disk_bus=DiskBus.AHCI)
def test_ahci(node: Node, releases: Releases, serve: Serve) -> None:
    _boots_and_updates(node, releases, serve, "sda")


@scenario(disk_bus=DiskBus.VIRTIO_SCSI)
def test_virtio_scsi(node: Node, releases: Releases, serve: Serve) -> None:
    _boots_and_updates(node, releases, serve, "sda")


@scenario(disk_bus=DiskBus.USB, tier="core", core_arch="x86_64")
def test_usb(node: Node, releases: Releases, serve: Serve) -> None:
    _boots_and_updates(node, releases, serve, "sda")


@scenario(arch="x86_64", disk_bus=DiskBus.NVME, firmware=Firmware.BIOS)
def test_nvme_with_bios(node: Node, releases: Releases, serve: Serve) -> None:
    _boots_and_updates(node, releases, serve, "nvme0n1")


@scenario(arch="x86_64", disk_bus=DiskBus.AHCI, firmware=Firmware.BIOS)
def test_ahci_with_bios(node: Node, releases: Releases, serve: Serve) -> None:
    _boots_and_updates(node, releases, serve, "sda")


@scenario(arch="x86_64", disk_bus=DiskBus.VIRTIO_SCSI, firmware=Firmware.BIOS)
def test_virtio_scsi_with_bios(node: Node, releases: Releases, serve: Serve) -> None:
    _boots_and_updates(node, releases, serve, "sda")


@scenario(arch="x86_64", disk_bus=DiskBus.USB, firmware=Firmware.BIOS)
def test_usb_with_bios(node: Node, releases: Releases, serve: Serve) -> None:
    _boots_and_updates(node, releases, serve, "sda")


# QEMU's UEFI firmware has no driver for SD cards on PCI.
@scenario(arch="x86_64", disk_bus=DiskBus.SD, disk_size_mib=4096, firmware=Firmware.BIOS)
def test_sd_card(node: Node, releases: Releases, serve: Serve) -> None:
    _boots_and_updates(node, releases, serve, "mmcblk0")
