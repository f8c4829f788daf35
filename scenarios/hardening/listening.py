"""Which sockets of a node listen, and which do by docs/security.md."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import NamedTuple

from harness.target.node import Node

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "security.md"
HEADING = "### What listens"
# Words of the document's column `address`.
EVERY, LOOPBACK, NODE = "every address", "loopback", "the node's address"
ANY_PORT = "any"

# One line for each socket of the host's network that waits for others: protocol, address, port and
# the program that has it.
LOOK = r"""
import glob, ipaddress, os
owners = {}
for link in glob.glob("/proc/[0-9]*/fd/*"):
    try:
        owners.setdefault(os.readlink(link), link.split("/")[2])
    except OSError:
        pass
for name, waits in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
    try:
        lines = open("/proc/net/" + name).read().splitlines()[1:]
    except FileNotFoundError:
        continue
    for line in lines:
        fields = line.split()
        if fields[3] != waits:
            continue
        text, _, port = fields[1].rpartition(":")
        words = [text[at:at + 8] for at in range(0, len(text), 8)]
        raw = b"".join(bytes.fromhex(word)[::-1] for word in words)
        pid = owners.get("socket:[" + fields[9] + "]")
        program = open("/proc/" + pid + "/comm").read().strip() if pid else "-"
        print(name[:3], ipaddress.ip_address(raw), int(port, 16), program)
"""


class Socket(NamedTuple):
    """A row of the table: what is written as code there stands without its marks."""

    protocol: str
    port: str
    address: str
    program: str


def documented(text: str) -> list[Socket]:
    """The rows of the table below the heading. Raises ValueError where there is none."""
    _, found, rest = text.partition(f"{HEADING}\n")
    rows = []
    for line in rest.partition("\n#")[0].splitlines():
        cells = [cell.strip().replace("`", "") for cell in line.strip("|").split("|")]
        if line.startswith("|") and re.fullmatch(r"(tcp|udp)", cells[0]):
            rows.append(Socket(*cells[:4]))
    if not found or not rows:
        raise ValueError(f"{DOCUMENT.name} has no table below {HEADING!r}")
    return rows


def look(node: Node) -> list[Socket]:
    """What listens now, by address and port."""
    lines = node.succeed(["python3", "-c", LOOK]).text.splitlines()
    found = []
    for line in lines:
        protocol, address, port, program = line.split()
        found.append(Socket(protocol, port, address, program))
    return sorted(found)


def fits(row: Socket, found: Socket, own: str) -> bool:
    """Whether the socket is the one that the row tells of; ``own`` is the node's address."""
    if (row.protocol, row.program) != (found.protocol, found.program):
        return False
    if row.port not in (ANY_PORT, found.port):
        return False
    address = ipaddress.ip_address(found.address)
    return {
        EVERY: address.is_unspecified,
        LOOPBACK: address.is_loopback,
        NODE: found.address == own,
    }.get(row.address, found.address == row.address)


def compare(rows: list[Socket], found: list[Socket], own: str) -> tuple[list[Socket], list[Socket]]:
    """What listens and no row tells of, and rows that no socket fits."""
    unknown = [socket for socket in found if not any(fits(row, socket, own) for row in rows)]
    absent = [row for row in rows if not any(fits(row, socket, own) for socket in found)]
    return unknown, absent
