"""A node whose network somebody configured."""

from __future__ import annotations

import re
from collections.abc import Callable

from harness.pytest_plugin.scenario import scenario
from harness.target.node import Node, State
from scenarios.network.site import IP, configure, ethernet, lan, meet_peer, pull, reaches
from scenarios.releases import Releases
from scenarios.steps import Update

Serve = Callable[..., Update]


@scenario()
def test_a_static_address_serves_an_update(node: Node, releases: Releases, serve: Serve) -> None:
    node.at(State.READY)
    configure(
        node,
        ethernet(
            "eth0",
            addresses=["10.0.2.77/24", "10.0.3.77/24"],
            routes=[{"to": "default", "via": "10.0.2.2"}],
            nameservers={"addresses": ["10.0.2.3", "10.0.2.4"], "search": ["site.example"]},
            mtu=1400,
        ),
    )
    since = node.journal.cursor
    node.reboot()
    node.wait_ready()
    node.wait_console("kubesolo: network eth0 10.0.2.77$", since=since)
    ready = serve(releases.good).install()
    assert (ready.version, ready.slot, ready.confirmed) == ("0.2.0", "B", True)
    network = node.status().network
    (card,) = network.interfaces
    assert (card.mode, card.addresses[:2]) == ("static", ["10.0.2.77/24", "10.0.3.77/24"])
    assert [route.gateway for route in network.default_routes][:1] == ["10.0.2.2"]
    assert (network.name_servers, network.search) == (["10.0.2.3", "10.0.2.4"], ["site.example"])
    assert node.status().problems == []
    assert node.get("/sys/class/net/eth0/mtu").strip() == b"1400"
    # Nobody asks for what nobody wants.
    assert node.run("sv status /run/service/dhcp").text.startswith("down: ")


@scenario(extra=lan(2))
def test_a_gateway_off_the_link(node: Node) -> None:
    """An address /32: the way leads over a router that is on none of the node's networks."""
    node.at(State.READY)
    off = {"via": "172.31.9.1", "metric": 50}
    configure(
        node,
        ethernet("eth0", dhcp4=True),
        ethernet(
            "eth1",
            addresses=["172.31.9.7/32"],
            routes=[
                {"to": "198.51.100.0/24", "on_link": True, **off},
                {"to": "203.0.113.0/24", "on_link": False, **off},
            ],
        ),
    )
    since = node.journal.cursor
    node.reboot()
    node.wait_ready()
    node.wait_console("kubesolo: network eth1 172.31.9.7$", since=since)
    meet_peer(
        node,
        "eth2",
        "addr add 172.31.9.1/32 dev eth2",
        "route add 172.31.9.7/32 dev eth2",
        "addr add 198.51.100.9/32 dev lo",
    )
    found = node.succeed(f"{IP} -4 route get 198.51.100.9").text
    assert "via 172.31.9.1 dev eth1 src 172.31.9.7" in found, found
    reaches(node, "198.51.100.9")
    # The one without on-link is refused by the kernel, and said by name.
    refused = "network: eth1: the route to 203.0.113.0/24 via 172.31.9.1 cannot be set: "
    (problem,) = node.status().problems
    assert problem.startswith(refused), problem
    node.wait_console(f"kubesolo: problem: {re.escape(refused)}", since=since)


@scenario(extra=lan(3))
def test_a_vlan_on_a_bond_survives_a_pulled_cable(node: Node) -> None:
    node.at(State.READY)
    configure(
        node,
        ethernet("eth0", dhcp4=True),
        ethernet("eth1"),
        ethernet("eth2"),
        {
            "id": "plant",
            "kind": "bond",
            "bond": {"interfaces": ["eth1", "eth2"], "mode": "active-backup", "miimon": 100},
        },
        {
            "id": "plant.20",
            "kind": "vlan",
            "vlan": {"id": 20, "link": "plant"},
            "addresses": ["10.20.0.5/24"],
            "routes": [{"to": "198.51.100.0/24", "via": "10.20.0.1"}],
        },
    )
    since = node.journal.cursor
    node.reboot()
    node.wait_ready()
    node.wait_console("kubesolo: network plant.20 10.20.0.5$", since=since)
    meet_peer(
        node,
        "eth3",
        "link add link eth3 name tagged type vlan id 20",
        "link set tagged up",
        "addr add 10.20.0.1/24 dev tagged",
        "addr add 198.51.100.9/32 dev lo",
    )
    reaches(node, "198.51.100.9")
    assert _active(node) == "eth1"
    pull(node, 1)
    node.succeed("until grep -q 'Active Slave: eth2' /proc/net/bonding/plant; do sleep 0.1; done")
    reaches(node, "198.51.100.9")
    pull(node, 1, up=True)
    pull(node, 2)
    node.succeed("until grep -q 'Active Slave: eth1' /proc/net/bonding/plant; do sleep 0.1; done")
    reaches(node, "198.51.100.9")
    status = node.status()
    modes = {card.name: (card.kind, card.mode) for card in status.network.interfaces}
    assert modes == {
        "eth0": ("card", "dhcp"),
        "eth1": ("card", "link"),
        "eth2": ("card", "link"),
        "plant": ("bond", "link"),
        "plant.20": ("vlan", "static"),
    }
    assert status.problems == []


def _active(node: Node) -> str:
    found = re.search(r"Active Slave: (\S+)", node.get("/proc/net/bonding/plant").decode())
    return found[1] if found else ""


@scenario()
def test_an_id_that_no_card_has_falls_back_to_dhcp(node: Node) -> None:
    """The file is of another machine, or of a system that names its cards otherwise."""
    node.at(State.READY)
    configure(
        node,
        ethernet("enp1s0", addresses=["192.168.7.9/24"]),
        ethernet("spare", match={"macaddress": "02:00:00:00:00:01"}, optional=True),
    )
    since = node.journal.cursor
    node.reboot()
    node.wait_ready()
    node.wait_console("kubesolo: network eth0 10.0.2.15$", since=since)
    mac = node.get("/sys/class/net/eth0/address").decode().strip()
    missing = f"enp1s0: no card has the name enp1s0; there are eth0 ({mac})"
    fallen = f"nothing in {_FILE} fits a card of this machine: DHCP is asked on all of them"
    assert node.status().problems == [f"network: {missing}", f"network: {fallen}"]
    for problem in (missing, fallen):
        node.wait_console(f"kubesolo: problem: network: {re.escape(problem)}$", since=since)


_FILE = "/etc/kubesolo/network.json"
