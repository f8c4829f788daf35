"""The node's address."""

from __future__ import annotations

import time

import pytest

from product.agent.net.configured import DefaultRoute
from product.agent.net.interfaces import Interface, Network
from product.node import address
from product.node.address import UNCONNECTED, choose, is_settled, present_address, wait_for_address
from product.node.paths import NodePaths
from product.node.tests.conftest import NodeWorld


def card(name: str, *addresses: str, link: bool | None = True, mode: str = "dhcp") -> Interface:
    return Interface(name, "e1000e", f"52:54:{name}", "pci x", link, 1000, addresses, mode=mode)


def network(*cards: Interface, routes: tuple[str, ...] = ()) -> Network:
    found = tuple(DefaultRoute(name, "10.0.0.1", 1000 + n) for n, name in enumerate(routes))
    return Network(cards, (), found)


ETH0 = card("eth0", "10.0.0.5/24", "fd00::5/64")
ETH1 = card("eth1", "10.1.0.5/24")


def test_the_default_routes_interface_counts() -> None:
    assert choose(network(ETH0, ETH1, routes=("eth1", "eth0"))) == "10.1.0.5"


def test_a_known_address_stays_while_an_interface_has_it() -> None:
    both = network(ETH0, ETH1, routes=("eth1",))
    assert choose(both, "10.0.0.5") == "10.0.0.5"
    assert choose(both, "10.9.0.5") == "10.1.0.5"
    assert choose(network(ETH0, card("eth1")), "10.1.0.5") == "10.0.0.5"


def test_without_a_default_route_the_first_that_has_one_counts() -> None:
    """A lease without a router: the isolated plant network."""
    assert choose(network(card("eth0"), ETH1)) == "10.1.0.5"


def test_a_card_whose_cable_is_out_comes_last() -> None:
    pulled = card("eth0", "10.0.0.5/24", link=False, mode="static")
    assert choose(network(pulled, ETH1)) == "10.1.0.5"
    assert choose(network(pulled)) == "10.0.0.5"


def test_ipv6_alone_is_no_address_of_the_node() -> None:
    six = Network((card("eth0", "fd00::5/64"),), (), (DefaultRoute("eth0", "fe80::1", 1),))
    assert choose(six) is None
    assert choose(network()) is None


@pytest.mark.parametrize(
    ("other", "known", "routes", "settled"),
    [
        (card("eth1"), None, ("eth0",), True),
        (card("eth1"), "10.0.0.5", (), True),
        (card("eth1"), None, (), False),
        (card("eth1"), "10.1.0.5", ("eth0",), False),
        (card("eth1", link=False), "10.1.0.5", ("eth0",), True),
        (card("eth1", mode="unused"), None, (), True),
        (ETH1, None, (), True),
    ],
    ids=["routed", "known", "no route", "known comes", "no link", "unused", "both"],
)
def test_what_may_still_come_is_waited_for(
    other: Interface, known: str | None, routes: tuple[str, ...], settled: bool
) -> None:
    assert is_settled(network(ETH0, other, routes=routes), "10.0.0.5", known) is settled


def test_an_address_that_comes_late_is_waited_for(world: NodeWorld) -> None:
    answers = iter([network(card("eth0")), network(card("eth0")), network(ETH0, routes=("eth0",))])
    assert wait_for_address(world.paths, None, 10, look=lambda paths: next(answers)) == "10.0.0.5"


def test_another_card_is_not_waited_for_for_ever(
    world: NodeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(address, "SETTLE_SECONDS", 0.3)
    begin = time.monotonic()
    found = wait_for_address(
        world.paths, "10.1.0.5", 10, look=lambda paths: network(ETH0, card("eth1"))
    )
    assert found == "10.0.0.5"
    assert 0.3 <= time.monotonic() - begin < 3


def test_the_wait_ends_at_its_deadline(world: NodeWorld) -> None:
    begin = time.monotonic()
    assert wait_for_address(world.paths, None, 0.3, look=lambda paths: network()) is None
    assert 0.3 <= time.monotonic() - begin < 3


def test_without_a_network_device_nothing_is_waited_for(tmp_path: object) -> None:
    begin = time.monotonic()
    assert wait_for_address(NodePaths(str(tmp_path)), None, 60) is None
    assert time.monotonic() - begin < 5


def test_garbage_among_the_routes_is_no_address(world: NodeWorld) -> None:
    garbage = "Iface\nx\t00000000\tq\tzz\t0\t0\tx\t00000000\n"
    world.write(f"{world.paths.kernel_network}/route", garbage)
    assert present_address(world.paths) is None


def test_the_address_without_a_network_is_nobody_elses() -> None:
    assert UNCONNECTED.startswith("192.0.2.")
