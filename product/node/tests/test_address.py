"""The node's address."""

from __future__ import annotations

import time

from product.node.address import (
    UNCONNECTED,
    default_interface,
    first_address,
    present_address,
    wait_for_address,
)
from product.node.paths import NodePaths
from product.node.tests.conftest import NodeWorld

HEADER = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"


def route(
    interface: str, destination: str = "00000000", *, metric: int = 0, up: bool = True
) -> str:
    mask = "00000000" if destination == "00000000" else "00FFFFFF"
    flags = "0003" if up else "0002"
    return f"{interface}\t{destination}\t0202000A\t{flags}\t0\t0\t{metric}\t{mask}\t0\t0\t0\n"


def test_the_default_route_with_the_least_metric_counts() -> None:
    text = (
        HEADER + route("cni0", "0000F40A") + route("eth1", metric=200) + route("eth0", metric=100)
    )
    assert default_interface(text) == "eth0"
    assert default_interface(HEADER + route("eth0", up=False)) is None
    assert default_interface(HEADER + route("eth0", "0002000A")) is None
    assert default_interface("") is None


def test_the_first_global_address_counts() -> None:
    line = "2: eth0    inet {} brd 10.0.2.255 scope {} eth0\\       valid_lft forever"
    assert first_address(line.format("10.0.2.15/24", "global")) == "10.0.2.15"
    both = line.format("169.254.1.1/16", "link") + "\n" + line.format("10.9.8.7/8", "global")
    assert first_address(both) == "10.9.8.7"
    assert first_address("") is None


def test_an_address_that_comes_late_is_waited_for(world: NodeWorld) -> None:
    answers = iter([None, None, "10.0.2.15"])
    assert wait_for_address(world.paths, 10, look=lambda paths: next(answers)) == "10.0.2.15"


def test_the_wait_ends_at_its_deadline(world: NodeWorld) -> None:
    begin = time.monotonic()
    assert wait_for_address(world.paths, 0.3, look=lambda paths: None) is None
    assert 0.3 <= time.monotonic() - begin < 3


def test_without_a_network_device_nothing_is_waited_for(tmp_path: object) -> None:
    begin = time.monotonic()
    assert wait_for_address(NodePaths(str(tmp_path)), 60) is None
    assert time.monotonic() - begin < 5


def test_garbage_among_the_routes_is_no_address(world: NodeWorld) -> None:
    world.write(world.paths.routes, "Iface\nx\t00000000\tq\tzz\t0\t0\tx\t00000000\n")
    assert present_address(world.paths) is None


def test_the_address_without_a_network_is_nobody_elses() -> None:
    assert UNCONNECTED.startswith("192.0.2.")
