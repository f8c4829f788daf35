"""What is said of the machine's network hardware."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from product.agent.net import interfaces
from product.agent.net.interfaces import Network, read_addresses, read_network
from product.agent.tests.world import World


def read(world: World) -> Network:
    return world.node().read_network()


def test_a_card_with_all_of_it(world: World) -> None:
    (found,) = read(world).interfaces
    assert found == (
        "eth0", "e1000e", "52:54:00:00:00:01", "pci 0000:00:03.0", True, 1000, ("10.0.2.15/24",),
        None, "dhcp", "card",
    )  # fmt: skip
    assert read(world).describe() == ["eth0 (e1000e, 52:54:00:00:00:01): 10.0.2.15/24"]
    assert read(world).faults() == []


@pytest.mark.parametrize(
    ("link", "state"),
    [(True, "no address after 7 s"), (False, "no link"), (None, "switched off")],
)
def test_a_card_without_an_address(
    world: World, monkeypatch: pytest.MonkeyPatch, link: bool | None, state: str
) -> None:
    world.plug_in(link=link, address=None)
    if link:
        uptime = float(Path("/proc/uptime").read_text().split()[0])
        world.write_file(f"{world.paths.dhcp}/eth0", f"{uptime - 7.5:.2f}\n")
    assert read(world).faults() == [f"eth0 (e1000e, 52:54:00:00:00:01): {state}"]


def test_a_card_without_a_driver(world: World) -> None:
    world.plug_in(driver=None)
    assert read(world).interfaces == ()
    assert read(world).describe() == ["no driver for pci 0000:00:03.0 8086:15f3"]


def test_other_devices_without_a_driver_are_not_the_network(world: World) -> None:
    world.plug_in(driver=None, kind="0x010802")
    assert read(world).describe() == ["this machine has no network card"]


def test_no_card(world: World) -> None:
    world.take_card_out()
    assert read(world).faults() == ["this machine has no network card"]


def test_cards_come_in_the_kernels_order(world: World) -> None:
    world.pull_out()
    world.plug_in("eth1", index=2)
    world.plug_in("eth0", index=3, mac="52:54:00:00:00:02", pci="0000:00:04.0", address=None)
    assert [entry.name for entry in read(world).interfaces] == ["eth1", "eth0"]
    assert len(read(world).faults()) == 1


def test_a_bridge_of_pods_is_no_card(world: World) -> None:
    Path(world.paths.sys, "class/net/cni0").mkdir()
    assert len(read(world).interfaces) == 1


def test_virtio_without_its_driver_is_named_by_its_place_on_pci(world: World) -> None:
    """The PCI device has a driver: that of virtio's bus."""
    world.plug_in(driver=None)
    pci = Path(world.paths.sys, "devices/0000:00:03.0")
    (Path(world.paths.sys) / "bus/pci/drivers/virtio-pci").mkdir(parents=True)
    (pci / "driver").symlink_to(Path(world.paths.sys, "bus/pci/drivers/virtio-pci"))
    virtio = pci / "virtio0"
    bus = Path(world.paths.sys, "bus/virtio")
    (bus / "devices").mkdir(parents=True)
    virtio.mkdir()
    (virtio / "device").write_text("0x0001\n")
    (virtio / "subsystem").symlink_to(bus)
    (bus / "devices/virtio0").symlink_to(virtio)
    assert read(world).describe() == ["no driver for pci 0000:00:03.0 8086:15f3"]
    (virtio / "driver").symlink_to(bus)
    assert read(world).unbound == ()


def test_an_adapter_on_usb_without_its_driver(world: World) -> None:
    device = Path(world.paths.sys, "devices/usb1/1-1")
    face = device / "1-1:1.0"
    face.mkdir(parents=True)
    (device / "idVendor").write_text("0525\n")
    (device / "idProduct").write_text("a4a2\n")
    (face / "bInterfaceClass").write_text("02\n")
    (face / "bInterfaceSubClass").write_text("06\n")
    devices = Path(world.paths.sys, "bus/usb/devices")
    devices.mkdir(parents=True)
    (devices / "1-1:1.0").symlink_to(face)
    world.take_card_out()
    assert read(world).describe() == ["no driver for usb 1-1:1.0 0525:a4a2"]


def test_the_kernel_is_asked_for_addresses() -> None:
    """On whatever host this is, addresses that lead somewhere have an interface."""
    found = read_addresses()
    names = dict(socket.if_nameindex())
    assert set(found) <= set(names)
    for addresses in found.values():
        for address in addresses:
            host, _, prefix = address.partition("/")
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            assert socket.inet_pton(family, host)
            assert int(prefix) > 0
            assert not host.startswith(("127.", "fe80:"))


def test_addresses_of_any_scope_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loopback's are there on every host, where their scope is not left out."""
    monkeypatch.setattr(interfaces, "_LINK_SCOPE", 255)
    assert "127.0.0.1/8" in read_addresses()[socket.if_nametoindex("lo")]


def test_a_kernel_that_tells_no_addresses_leaves_the_hardware(world: World) -> None:

    def refuse() -> dict[int, list[str]]:
        raise OSError(1, "Operation not permitted")

    found = read_network(world.paths.sys, world.paths.dhcp, refuse)
    assert [entry.name for entry in found.interfaces] == ["eth0"]
    assert not found.has_address
