"""What a node is told of its site, and a neighbour that it has there.

The neighbour is a network namespace of the guest itself: a card of its own on the same hub of
QEMU's, with the kernel behind it that answers ARP, tags and pings as any other host does.
"""

from __future__ import annotations

import json

from harness.commands.channel import CompletedCommand
from harness.journal.journal import Source
from harness.target.node import Node
from scenarios.set_up import set_up

NETWORK = "/etc/kubesolo/network.json"
# busybox has a program of the same name, which a shell takes first.
IP = "/usr/sbin/ip"
PEER = f"{IP} netns exec peer"


def lan(cards: int) -> tuple[str, ...]:
    """QEMU's arguments for a hub with so many cards of the machine on it: eth1, eth2 and so on."""
    words: list[str] = []
    for number in range(1, cards + 1):
        words += ["-netdev", f"hubport,id=net{number},hubid=1"]
        words += ["-device", f"virtio-net-pci,id=nic{number},netdev=net{number},romfile="]
    return tuple(words)


def ethernet(name: str, **settings: object) -> dict[str, object]:
    """One entry of network.json: the card with this name, without DHCP unless asked for."""
    entry = {"id": name, "kind": "ethernet", "match": {"name": name}}
    return {**entry, "dhcp4": False, "dhcp6": False, **settings}


@set_up
def configure(node: Node, *interfaces: dict[str, object]) -> None:
    """Write network.json, as first-boot configuration does; the next boot reads it."""
    node.put(json.dumps({"schema": 1, "interfaces": interfaces}), NETWORK)
    node.succeed(f"sync {NETWORK} && sync")


@set_up
def meet_peer(node: Node, card: str, *commands: str) -> None:
    """Give ``card`` to the neighbour, and run ip(8) with ``commands`` there."""
    lines = [
        f"{IP} netns add peer",
        f"{IP} link set {card} netns peer",
        f"{IP} -n peer link set lo up",
        f"{IP} -n peer link set {card} up",
        *(f"{IP} -n peer {command}" for command in commands),
    ]
    node.succeed(" && ".join(lines))


@set_up
def serve_leases(node: Node, card: str, *options: str) -> None:
    """Have the neighbour give 172.31.9.7 away, with these options of udhcpd's."""
    lines = ["start 172.31.9.7", "end 172.31.9.7", f"interface {card}", "lease_file /run/leases"]
    lines += ["pidfile /run/udhcpd.pid", *(f"opt {option}" for option in options)]
    node.put("\n".join(lines) + "\n", "/run/udhcpd.conf")
    node.succeed(f": > /run/leases && {PEER} busybox udhcpd -S /run/udhcpd.conf")


def pull(node: Node, card: int, *, up: bool = False) -> None:
    """Pull the cable of the hub's card number ``card``, or put it back."""
    node.machine.qmp("set_link", name=f"nic{card}", up=up)
    state = "up" if up else "down"
    node.journal.append(Source.FAULT, "fired", f"link of nic{card} {state}")


def reaches(node: Node, address: str) -> CompletedCommand:
    """The node gets an answer to a ping. Raises CommandError."""
    return node.succeed(["ping", "-c", "1", "-W", "5", address])
