"""The only network card may be any that people have: an update comes through it."""

from __future__ import annotations

from collections.abc import Callable

from harness.pytest_plugin.scenario import scenario
from harness.qemu.arch import Firmware
from harness.qemu.devices import NetworkCard
from harness.target.node import Node
from scenarios.releases import Releases
from scenarios.steps import Update

Serve = Callable[..., Update]


def _updates_through(node: Node, releases: Releases, serve: Serve, driver: str) -> None:
    node.boot()
    found = node.succeed("ls -l /sys/class/net/*/device/driver").text
    assert f"/drivers/{driver}\n" in f"{found}\n", found
    ready = serve(releases.good).install()
    assert (ready.version, ready.slot, ready.confirmed) == ("0.2.0", "B", True)


@scenario(network_card=NetworkCard.E1000)
def test_e1000(node: Node, releases: Releases, serve: Serve) -> None:
    _updates_through(node, releases, serve, "e1000")


@scenario(network_card=NetworkCard.E1000E)
def test_e1000e(node: Node, releases: Releases, serve: Serve) -> None:
    _updates_through(node, releases, serve, "e1000e")


@scenario(network_card=NetworkCard.IGB, tier="core", core_arch="aarch64")
def test_igb(node: Node, releases: Releases, serve: Serve) -> None:
    _updates_through(node, releases, serve, "igb")


@scenario(network_card=NetworkCard.RTL8139)
def test_rtl8139(node: Node, releases: Releases, serve: Serve) -> None:
    _updates_through(node, releases, serve, "8139cp")


@scenario(network_card=NetworkCard.VMXNET3)
def test_vmxnet3(node: Node, releases: Releases, serve: Serve) -> None:
    _updates_through(node, releases, serve, "vmxnet3")


@scenario(network_card=NetworkCard.USB)
def test_usb_adapter(node: Node, releases: Releases, serve: Serve) -> None:
    _updates_through(node, releases, serve, "cdc_ether")


_FURTHER = tuple(
    card for card in NetworkCard if card not in (NetworkCard.VIRTIO, NetworkCard.PCNET)
)


def _further_cards() -> tuple[str, ...]:
    """QEMU's arguments: each on a network of its own, where the first address tells which it is."""
    words: list[str] = []
    for number, card in enumerate(_FURTHER, 1):
        words += ["-netdev", f"user,id=net{number},dhcpstart=10.0.2.{100 + number}"]
        for device in card.devices(f"net{number}", f"nic{number}"):
            words += ["-device", device]
    return tuple(words)


@scenario(arch="x86_64", firmware=Firmware.BIOS, extra=_further_cards())
def test_all_of_them_at_once_with_bios(node: Node) -> None:
    node.boot()
    for number in range(1, len(_FURTHER) + 1):
        node.wait_console(rf"kubesolo: network \w+ 10\.0\.2\.{100 + number}$", since=0)
    found = {card.driver for card in node.status().network.interfaces if card.addresses}
    assert found == {"virtio_net", "e1000", "e1000e", "igb", "8139cp", "vmxnet3", "cdc_ether"}
