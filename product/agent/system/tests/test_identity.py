"""Which node this is."""

from __future__ import annotations

from pathlib import Path

from product.agent.system.identity import node_identity
from product.agent.system.paths import Paths
from product.agent.tests.world import World


def test_it_follows_from_the_machine(world: World) -> None:
    first = node_identity(world.paths)
    assert len(first) == 64
    world.power_on()
    assert node_identity(world.paths) == first
    # What has no device, as a bridge and what containers bring, is no card.
    world.write_file(f"{world.paths.sys}/class/net/cni0/address", "0a:00:00:00:00:01\n")
    assert node_identity(world.paths) == first


def test_another_card_name_or_serial_number_is_another_node(world: World) -> None:
    seen = {node_identity(world.paths)}
    world.plug_in(mac="52:54:00:00:00:02")
    seen.add(node_identity(world.paths))
    world.write_file(world.paths.hostname, "edge-07\n")
    seen.add(node_identity(world.paths))
    world.write_file(f"{world.paths.sys}/class/dmi/id/product_uuid", "4c4c4544-0051\n")
    seen.add(node_identity(world.paths))
    world.write_file(f"{world.paths.sys}/firmware/devicetree/base/serial-number", "10000000ab\0")
    seen.add(node_identity(world.paths))
    assert len(seen) == 5


def test_a_machine_that_says_nothing_has_one_too(tmp_path: Path) -> None:
    assert len(node_identity(Paths(str(tmp_path)))) == 64
