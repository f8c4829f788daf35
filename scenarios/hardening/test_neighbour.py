"""A hostile neighbour on the network finds the documented ports and no others."""

from __future__ import annotations

from harness.pytest_plugin.scenario import scenario
from harness.target.node import Node, State
from scenarios.hardening.scan import documented, open_ports
from scenarios.network.site import configure, ethernet, lan, meet_peer

NODE = "172.31.9.7"


def meet(node: Node) -> None:
    """Give the node an address beside the neighbour's."""
    configure(node, ethernet("eth0", dhcp4=True), ethernet("eth1", addresses=[f"{NODE}/24"]))
    node.reboot()
    node.wait_ready()
    meet_peer(node, "eth2", "addr add 172.31.9.66/24 dev eth2")
    # A node says so once a second and neighbour, which would make a scan of UDP last a day; and at
    # most 50 times in 20 ms, so that a quick scan would take closed ports for silent ones.
    node.succeed(
        "sysctl -q -w net.ipv4.icmp_ratelimit=0 net.ipv4.icmp_msgs_per_sec=100000"
        " net.ipv4.icmp_msgs_burst=100000"
    )


@scenario(extra=lan(2))
def test_a_scan_finds_the_documented_ports_alone(node: Node) -> None:
    node.at(State.READY)
    meet(node)
    # The scan sees what is there: a program that listens is found.
    node.succeed("setsid nc -l -p 4444 > /dev/null 2>&1 < /dev/null &")
    found = open_ports(node, NODE)
    assert set(found["tcp"]) == documented()["tcp"] | {4444}
    assert set(found["udp"]) == documented()["udp"]
    assert found["silent"] == []
