"""A neighbour on the network that tries every port of the node.

It is a network namespace of the guest with a card of its own (scenarios.network.site): what it
sends takes the way that packets of another machine take.
"""

from __future__ import annotations

import json
from pathlib import Path

from harness.target.node import Node
from scenarios.network.site import PEER

SECURITY = Path(__file__).resolve().parents[2] / "docs/security.md"
_HEAD = "| port | where | who may reach it | what |"

# Prints the ports that answer, of TCP and UDP, as one object. TCP: a connection is made. UDP: the
# node does not say that nobody listens. A packet that got lost looks the same: each is asked
# thrice.
_SCAN = """
import errno, json, select, socket, sys
address, family = sys.argv[1], socket.AF_INET
def tcp(ports):
    waiting, found = {}, []
    for port in ports:
        one = socket.socket(family, socket.SOCK_STREAM)
        one.setblocking(False)
        if one.connect_ex((address, port)) not in (0, errno.EINPROGRESS):
            sys.exit(f"no way to {address}:{port}")
        waiting[one] = port
    while waiting:
        _, done, _ = select.select([], list(waiting), [], 10)
        if not done:
            break
        for one in done:
            if one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                found.append(waiting[one])
            del waiting[one]
            one.close()
    silent = sorted(waiting.values())
    for one in waiting:
        one.close()
    return found, silent
def udp(ports):
    left = set(ports)
    for _ in range(3):
        sockets = {}
        for port in sorted(left):
            one = socket.socket(family, socket.SOCK_DGRAM)
            one.setblocking(False)
            one.connect((address, port))
            try:
                one.send(b"?")
            except ConnectionRefusedError:
                left.discard(port)
            sockets[one] = port
        while sockets:
            ready, _, _ = select.select(list(sockets), [], [], 2)
            if not ready:
                break
            for one in ready:
                try:
                    one.recv(2048)
                except ConnectionRefusedError:
                    left.discard(sockets[one])
                del sockets[one]
                one.close()
        for one in sockets:
            one.close()
    return sorted(left)
found = {"tcp": [], "silent": [], "udp": []}
for start in range(1, 65536, 500):
    ports = range(start, min(start + 500, 65536))
    opened, silent = tcp(ports)
    found["tcp"] += opened
    found["silent"] += silent
    found["udp"] += udp(ports)
found["tcp"].sort()
print(json.dumps(found))
"""


def open_ports(node: Node, address: str) -> dict[str, list[int]]:
    """The ports of ``address`` that answer the neighbour: `tcp` and `udp`; `silent` say nothing."""
    node.put(_SCAN, "/run/scan.py")
    command = f"ulimit -n 4096; {PEER} python3 -ISB /run/scan.py {address}"
    found: dict[str, list[int]] = json.loads(node.succeed(command, seconds=600).text)
    return found


def documented() -> dict[str, set[int]]:
    """The ports of docs/security.md that other machines reach on every node, whatever it has."""
    lines = SECURITY.read_text().splitlines()
    found: dict[str, set[int]] = {"tcp": set(), "udp": set()}
    for line in lines[lines.index(_HEAD) + 2 :]:
        if not line.startswith("|"):
            break
        port, where, _, _ = (cell.strip() for cell in line.strip("|").split("|", 3))
        if where == "every node":
            number = int(port.partition(",")[0])
            found["udp" if "UDP" in port else "tcp"].add(number)
    return found
