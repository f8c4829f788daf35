"""What a configuration means on a machine with certain cards."""

from __future__ import annotations

from pathlib import Path

import pytest

from product.netconf.cards import Card
from product.netconf.client import allowed, render
from product.netconf.document import BOND, VLAN, Bond, Configured, Route, Vlan
from product.netconf.plan import Asked, Plan, make_plan

ETH0, ETH1 = Card("eth0", "52:54:00:00:00:01", 2), Card("eth1", "52:54:00:00:00:02", 3)
CARDS = (ETH0, ETH1)
IMAGE = Path(__file__).resolve().parents[3] / "images/overlay/usr/lib/kubesolo/dhcpcd.conf"


def plan(*configured: Configured, cards: tuple[Card, ...] = CARDS, names: str = "") -> Plan:
    return make_plan(configured, cards, frozenset([*(card.name for card in cards), *names.split()]))


def commands(made: Plan) -> list[str]:
    """All of them in their order; every route as of an interface with the number 7."""
    steps = [*made.make, *made.switch_on, *made.addresses]
    steps += [route.step(7) for route in made.routes]
    return [" ".join(step.argv) for step in steps]


def test_a_static_address() -> None:
    lan = Configured(
        "lan",
        name="eth0",
        addresses=("10.0.0.5/24", "fd00::5/64"),
        routes=(Route("default", "10.0.0.1"), Route("fd01::/64", "fd00::1", metric=50)),
        mtu=1400,
        servers=("10.0.0.1",),
        accept_ra=False,
    )
    made = plan(lan)
    assert commands(made) == [
        "ip link set eth0 mtu 1400",
        "ip link set eth0 up",
        "ip -4 addr replace 10.0.0.5/24 broadcast + dev eth0",
        "ip -6 addr replace fd00::5/64 dev eth0",
        "ip -4 route replace default via 10.0.0.1 dev eth0 metric 1007 proto static",
        "ip -6 route replace fd01::/64 via fd00::1 dev eth0 metric 50 proto static",
    ]
    assert (made.asked, made.problems, made.fallback) == ((), (), False)
    assert made.modes == {"eth0": "static"}
    assert made.servers == (("eth0", ("10.0.0.1",), ()),)
    assert ("ipv6/conf/eth0/accept_ra", "0") in made.settings
    assert ("ipv4/conf/eth0/ignore_routes_with_linkdown", "1") in made.settings


def test_a_gateway_off_the_link() -> None:
    made = plan(
        Configured(
            "eth0",
            name="eth0",
            addresses=("172.31.9.7/32",),
            routes=(Route("default", "172.31.9.1", on_link=True),),
        )
    )
    assert commands(made)[1:] == [
        "ip -4 addr replace 172.31.9.7/32 dev eth0",
        "ip -4 route replace default via 172.31.9.1 dev eth0 onlink metric 1007 proto static",
    ]


def test_cards_are_found_by_address_before_name_before_pattern() -> None:
    made = plan(
        Configured("any", name="e*", dhcp4=True),
        Configured("second", mac=ETH1.mac, addresses=("10.0.0.5/24",)),
    )
    assert made.asked == (Asked("eth0", True, False, None),)
    assert made.modes == {"eth0": "dhcp", "eth1": "static"}


def test_a_pattern_serves_dhcp_on_all_and_an_address_on_the_first() -> None:
    made = plan(Configured("all", name="e*", dhcp4=True, addresses=("10.0.0.5/24",)))
    assert [one.interface for one in made.asked] == ["eth0", "eth1"]
    assert made.modes == {"eth0": "dhcp+static", "eth1": "dhcp"}
    assert [step.argv[-1] for step in made.addresses] == ["eth0"]
    assert made.problems == ("all: eth0, eth1 have the name e*; the addresses are those of eth0",)


def test_what_no_card_has_names_those_there_are() -> None:
    made = plan(Configured("lan", name="eth0", dhcp4=True), Configured("wan", name="enp2s0"))
    assert made.problems == (
        "wan: no card has the name enp2s0; there are eth0 (52:54:00:00:00:01), "
        "eth1 (52:54:00:00:00:02)",
    )
    assert not made.fallback
    optional = Configured("wan", name="enp2s0", optional=True)
    assert plan(Configured("lan", name="eth0"), optional).problems == ()


def test_two_entries_for_one_card() -> None:
    made = plan(Configured("a", name="eth0"), Configured("b", name="eth0"))
    assert made.problems == ("b: eth0 (52:54:00:00:00:01) is configured under another id already",)


def test_where_nothing_fits_every_card_asks() -> None:
    made = plan(Configured("wan", name="enp2s0", addresses=("10.0.0.5/24",)))
    assert made.fallback
    assert [one.interface for one in made.asked] == ["eth0", "eth1"]
    assert commands(made) == []
    assert made.problems[-1].endswith("fits a card of this machine: DHCP is asked on all of them")
    # Without a card there is nothing to say of one.
    assert plan(Configured("wan", name="enp2s0"), cards=()).problems == ()


MEMBERS = (Configured("a", mac=ETH0.mac), Configured("b", name="eth1"))
PLANT = Configured("plant", BOND, dhcp4=True, bond=Bond(("a", "b"), "active-backup", 100, "b"))
TAGGED = Configured("plant.20", VLAN, addresses=("10.20.0.5/24",), vlan=Vlan(20, "plant"))


def test_a_vlan_on_a_bond() -> None:
    made = plan(TAGGED, PLANT, *MEMBERS)
    assert commands(made) == [
        "modprobe -q bonding max_bonds=0",
        "ip link add plant type bond mode active-backup miimon 100",
        "ip link set eth0 down",
        "ip link set eth0 master plant",
        "ip link set eth1 down",
        "ip link set eth1 master plant",
        "ip link set plant type bond primary eth1",
        "ip link add link plant name plant.20 type vlan id 20",
        "ip link set plant up",
        "ip link set plant.20 up",
        "ip -4 addr replace 10.20.0.5/24 broadcast + dev plant.20",
    ]
    assert made.asked == (Asked("plant", True, False, None),)
    assert made.modes == {"eth0": "link", "eth1": "link", "plant": "dhcp", "plant.20": "static"}
    assert made.kinds["plant.20"] == "vlan"


def test_what_was_made_is_not_made_again() -> None:
    cards = tuple(card._replace(master="plant") for card in CARDS)
    made = plan(TAGGED, PLANT, *MEMBERS, cards=cards, names="plant plant.20")
    assert commands(made) == [
        "ip link set plant type bond primary eth1",
        "ip link set plant up",
        "ip link set plant.20 up",
        "ip -4 addr replace 10.20.0.5/24 broadcast + dev plant.20",
    ]


@pytest.mark.parametrize(
    "made",
    [
        Configured("eth1", VLAN, addresses=("10.5.0.5/24",), vlan=Vlan(5, "lan")),
        Configured("eth1", BOND, dhcp4=True, bond=Bond(("lan",), "active-backup", 100)),
    ],
)
def test_what_is_to_be_made_never_takes_the_name_of_a_card(made: Configured) -> None:
    lan = Configured("lan", mac=ETH0.mac, dhcp4=True)
    above = Configured("v", VLAN, dhcp4=True, vlan=Vlan(7, "eth1"))
    done = plan(lan, made, above)
    assert "eth1" not in " ".join(commands(done))
    assert "eth1" not in done.modes
    assert done.problems == (
        "eth1: a card of this machine has that name already, so nothing else is made under it",
        "v: eth1, on which it stands, is not there",
    )
    assert done.asked == (Asked("eth0", True, False, None),)
    # Made by an earlier run, it is its own.
    assert plan(lan, made, cards=(ETH0,), names="eth1").problems == ()


@pytest.mark.parametrize("name", ["lo", "all", "default"])
def test_names_that_the_kernel_keeps_are_not_made(name: str) -> None:
    done = plan(
        Configured("eth0", name="eth0", dhcp4=True),
        Configured(name, VLAN, accept_ra=False, vlan=Vlan(5, "eth0")),
        names="lo",
    )
    assert done.problems == (f"{name}: the kernel keeps that name for itself, so it is not made",)
    assert not [setting for setting in done.settings if f"/{name}/" in setting.path]


def test_a_node_whose_only_address_was_refused_asks_by_dhcp() -> None:
    done = plan(
        Configured("lan", mac=ETH0.mac),
        Configured("eth0", VLAN, addresses=("10.0.0.1/24",), vlan=Vlan(5, "lan")),
    )
    assert done.fallback
    assert len(done.problems) == 2
    assert "DHCP is asked on all of them" in done.problems[1]


def test_what_stands_on_a_missing_card_is_named() -> None:
    bond = Configured("bond1", BOND, bond=Bond(("c",), "active-backup", 100))
    made = plan(
        Configured("a", name="eth0"),
        Configured("c", name="eth9", optional=True),
        bond,
        Configured("v", VLAN, vlan=Vlan(5, "c")),
        Configured("w", VLAN, vlan=Vlan(6, "bond1")),
    )
    assert made.problems == (
        "bond1: none of its members is there",
        "v: c, on which it stands, is not there",
        "w: bond1, on which it stands, is not there",
    )


def test_the_client_asks_as_configured() -> None:
    image = IMAGE.read_text()
    text = render(
        image,
        [
            Asked("eth0"),
            Asked("eth1", dhcp4=True, dhcp6=False),
            Asked("eth2", dhcp4=False, dhcp6=True, accept_ra=False),
            Asked("eth3", dhcp4=True, dhcp6=False, accept_ra=False),
        ],
    )
    head, _, tail = text.partition("allowinterfaces ")
    assert image.startswith(head)
    assert tail == (
        "eth0 eth1 eth2 eth3\n"
        "interface eth1\n    nodhcp6\n"
        "interface eth2\n    noipv4\n    noipv6rs\n    ia_na\n"
        "interface eth3\n    noipv6\n"
    )
    assert allowed(text) == ("eth0", "eth1", "eth2", "eth3")
    assert allowed("") == ()


@pytest.mark.parametrize("name", ["veth1a2b3c", "cni0", "lo", "docker0", "wg0"])
def test_without_a_configuration_interfaces_of_pods_are_left_alone(name: str) -> None:
    from fnmatch import fnmatch

    patterns = allowed(IMAGE.read_text())
    assert not any(fnmatch(name, pattern) for pattern in patterns)
    for card in ("eth0", "eth12", "enp1s0", "usb0"):
        assert any(fnmatch(card, pattern) for pattern in patterns)
