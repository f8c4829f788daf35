"""A network that the node has to take as it finds it."""

from __future__ import annotations

from harness.pytest_plugin.scenario import scenario
from harness.target.node import Node, State
from scenarios.network.site import IP, PEER, lan, meet_peer, pull, serve_leases
from scenarios.profile import CHANNEL_OFFER

# libslirp names neither a router nor a name server to such a guest.
ISOLATED = (
    "-netdev", "user,id=net0,restrict=on",
    "-device", "virtio-net-pci,id=nic0,netdev=net0,romfile=",
)  # fmt: skip
NO_ROUTE = "network: no default route for IPv4: what is not on the same network cannot be reached"


@scenario(network=False, extra=ISOLATED)
def test_a_lease_without_a_router(node: Node) -> None:
    """The plant's own network: the node has an address, and says what it lacks."""
    node.power_on()
    node.wait_ready()
    node.wait_console("kubesolo: network eth0 10.0.2.15$", since=0)
    node.wait_console("kubesolo: network: no default route", since=0)
    assert node.status().problems == [NO_ROUTE]
    ways = [route.gateway for route in node.status().network.default_routes]
    assert not any("." in way for way in ways), ways
    assert "10.0.2.15/24" in node.status().network.interfaces[0].addresses


# Without the harness' word that there is no time server.
@scenario(extra=lan(2), smbios=(CHANNEL_OFFER,))
def test_a_lease_of_32_bits_whose_router_is_elsewhere(node: Node) -> None:
    """Option 121 goes before option 3 (RFC 3442); a cable that comes later is asked on at once."""
    node.at(State.READY)
    pull(node, 1)
    meet_peer(
        node,
        "eth2",
        "addr add 172.31.9.1/32 dev eth2",
        "route add 172.31.9.7/32 dev eth2",
        "addr add 203.0.113.9/32 dev lo",
    )
    serve_leases(
        node,
        "eth2",
        "subnet 255.255.255.255",
        "router 172.31.9.99",
        "staticroutes 0.0.0.0/0 172.31.9.1, 203.0.113.0/24 172.31.9.1",
        "dns 10.0.2.3 172.31.9.1",
        "search plant.example site.example",
        "ntpsrv 172.31.9.1",
    )
    since = node.journal.cursor
    pull(node, 1, up=True)
    node.wait_console("kubesolo: network eth1 172.31.9.7$", since=since)
    node.succeed(f"until {IP} -4 route show 203.0.113.0/24 | grep -q eth1; do sleep 0.1; done")
    found = node.succeed(f"{IP} -4 route get 203.0.113.9").text
    assert "via 172.31.9.1 dev eth1 src 172.31.9.7" in found, found
    node.succeed(f"{PEER} ping -c 1 -W 5 172.31.9.7")
    status = node.status()
    # The first card goes first.
    assert [(route.interface, route.gateway) for route in status.network.default_routes][:2] == [
        ("eth0", "10.0.2.2"),
        ("eth1", "172.31.9.1"),
    ]
    assert status.network.name_servers == ["10.0.2.3", "172.31.9.1"]
    assert status.network.search == ["plant.example", "site.example"]
    assert (status.time["from"], status.time.servers) == ("DHCP", ["172.31.9.1"])
    assert status.problems == []
    # What came with the cable goes with it.
    pull(node, 1)
    node.succeed(f"while {IP} -4 addr show dev eth1 | grep -q inet; do sleep 0.1; done")
    network = node.status().network
    assert [route.interface for route in network.default_routes if ":" not in route.gateway] == [
        "eth0"
    ]
    assert (network.name_servers, network.search) == (["10.0.2.3"], [])


@scenario(extra=("-device", "qemu-xhci,id=usbnet"))
def test_a_card_that_is_plugged_in_later_changes_no_name(node: Node) -> None:
    """It gets an address, and the node keeps its own name and that which goes first."""
    node.power_on()
    node.wait_ready()
    name = node.succeed("hostname").text
    mac = node.get("/sys/class/net/eth0/address").decode().strip().replace(":", "")
    assert name == f"kubesolo-{mac}"
    since = node.journal.cursor
    node.machine.qmp("netdev_add", type="user", id="net9", dhcpstart="10.0.2.90")
    node.machine.qmp(
        "device_add", driver="usb-net", id="nic9", bus="usbnet.0", netdev="net9",
        mac="02:00:00:00:00:09",
    )  # fmt: skip
    node.wait_console(r"kubesolo: network \w+ 10\.0\.2\.90$", since=since)
    node.reboot()
    node.wait_ready()
    node.wait_console(r"kubesolo: network \w+ 10\.0\.2\.90$", since=since)
    assert node.succeed("hostname").text == name
    ways = [route.interface for route in node.status().network.default_routes]
    assert ways[0] == "eth0", ways
    assert node.status().problems == []
