"""The machine's network: what the kernel has made of the hardware, what it has no driver for, and
what the node's services made of the configuration.

Reads sysfs, and asks the kernel for addresses by netlink: neither needs a program. The module
``socket`` costs an emulated node a tenth of a second at every boot; what it is made of does not.
"""

from __future__ import annotations

import _socket
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

from product.agent.net.configured import (
    CARD,
    LINK,
    STATIC,
    UNUSED,
    DefaultRoute,
    default_routes,
    name_servers,
    read_setup,
)

# linux/netlink.h and linux/rtnetlink.h.
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_RTM_NEWADDR, _RTM_GETADDR = 20, 22
_NLM_F_REQUEST, _NLM_F_DUMP = 1, 0x300
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_HEADER = struct.Struct("=IHHII")
_ADDRESS = struct.Struct("=BBBBI")
_ATTRIBUTE = struct.Struct("=HH")
_SECONDS = 5
# An address of this scope or a narrower one leads nowhere.
_ADDRESS_BYTES = {_socket.AF_INET: 4, _socket.AF_INET6: 16}
_LINK_SCOPE = 253
# PCI's class of network controllers, and virtio's device type of them.
_PCI_NETWORK = "0x02"
_VIRTIO_NETWORK = "0x0001"
# Class and subclass of the interfaces that USB's network adapters have by standard: Ethernet, NCM
# and RNDIS. Many have one of their maker's, which tells nothing.
_USB_NETWORK = (("02", "06"), ("02", "0d"), ("e0", "01"))


NO_ROUTE = "no default route for IPv4: what is not on the same network cannot be reached"


class Around(NamedTuple):
    """Where else there is something to be read: the folder of the service ``network``, the
    kernel's /proc/net, and resolv.conf."""

    setup: str = "/run/kubesolo/network"
    kernel: str = "/proc/net"
    resolver: str = "/run/resolv.conf"


class Interface(NamedTuple):
    """One network interface that is hardware, or was made of it as configured.

    ``device`` is its place on the bus, as in ``pci 0000:00:03.0``. ``link`` is None while the
    interface is switched off, ``speed`` in Mbit/s where the driver knows it. ``addresses`` are with
    their prefix, those that lead nowhere left out. ``waited``: for how many seconds DHCP has been
    asking, where it has no answer. ``mode``: "dhcp", "static", "dhcp+static", "link" (others
    stand on it) or "unused". ``kind``: "card", "vlan" or "bond".
    """

    name: str
    driver: str | None
    mac: str
    device: str
    link: bool | None
    speed: int | None
    addresses: tuple[str, ...]
    waited: int | None = None
    mode: str = "dhcp"
    kind: str = CARD

    @property
    def key(self) -> str:
        """What it is known by from one release to the next: a card by its address, which others
        that stand on it have as well."""
        return self.mac if self.kind == CARD else self.name

    @property
    def reachable(self) -> bool:
        """Whether it has an address, and no pulled cable."""
        return bool(self.addresses) and self.link is not False

    @property
    def has_ipv4(self) -> bool:
        """Whether DHCP's, or another, IPv4 address is on it."""
        return any(":" not in address for address in self.addresses)

    def describe(self) -> str:
        """As in ``eth0 (e1000e, 52:54:00:12:34:56): no link``."""
        return f"{self.name} ({self.driver or 'no driver'}, {self.mac}): {self.state}"

    @property
    def state(self) -> str:
        """Its addresses, or what it lacks."""
        if self.addresses:
            found = ", ".join(self.addresses) + (", static" if self.mode == STATIC else "")
            return found if self.link is not False else f"{found}, no link"
        if self.link is None:
            return "switched off"
        if not self.link:
            return "no link"
        if self.mode == LINK:
            return "a link of others"
        if self.mode == UNUSED:
            return "not configured"
        return "no address" + (f" after {self.waited} s" if self.waited is not None else "")


class Unbound(NamedTuple):
    """A network device that no driver has taken; ``id`` is vendor and product."""

    device: str
    id: str

    def describe(self) -> str:
        """As in ``no driver for pci 0000:01:00.0 8086:15f3``."""
        return f"no driver for {self.device} {self.id}"


class Network(NamedTuple):
    """All of it. ``routes`` are the default ones, the first that is taken first; None where they
    cannot be read. ``problems``: what of the configuration could not be set."""

    interfaces: tuple[Interface, ...]
    unbound: tuple[Unbound, ...]
    routes: tuple[DefaultRoute, ...] | None = None
    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def has_address(self) -> bool:
        """Whether the machine can be reached, as far as it can know."""
        return any(interface.reachable for interface in self.interfaces)

    @property
    def lacks_route(self) -> bool:
        """Whether there is an IPv4 address and no way out, which nobody configured so."""
        if self.routes is None or any(":" not in route.gateway for route in self.routes):
            return False
        return any(
            entry.reachable and entry.has_ipv4 and entry.mode != STATIC for entry in self.interfaces
        )

    def describe(self) -> list[str]:
        """A line for each interface and each device without a driver."""
        if not self.interfaces and not self.unbound:
            return ["this machine has no network card"]
        found = [entry.describe() for entry in self.interfaces]
        return found + [entry.describe() for entry in self.unbound]

    def faults(self) -> list[str]:
        """The same of what has no address and no driver; and that there is no way out."""
        if not self.interfaces:
            return self.describe()
        lacking = [
            entry.describe()
            for entry in self.interfaces
            if not entry.reachable and entry.mode not in (LINK, UNUSED)
        ]
        lacking += [entry.describe() for entry in self.unbound]
        return [*lacking, NO_ROUTE] if self.lacks_route else lacking

    def describe_ways(self) -> list[str]:
        """Which default route is taken, and who is asked for names."""
        found = []
        if self.routes:
            ways = ", then ".join(route.describe() for route in self.routes)
            found.append(f"default route: {ways}")
        if self.servers:
            search = f"; search {' '.join(self.search)}" if self.search else ""
            found.append(f"name servers: {' '.join(self.servers)}{search}")
        return found

    def as_json(self) -> dict[str, list[object]]:
        """For reports."""
        return {
            "interfaces": [dict(entry._asdict()) for entry in self.interfaces],
            "unbound": [dict(entry._asdict()) for entry in self.unbound],
            "default_routes": [dict(route._asdict()) for route in self.routes or ()],
            "name_servers": [*self.servers],
            "search": [*self.search],
            "problems": [*self.problems],
            "summary": [*self.describe(), *self.describe_ways()],
        }


Addresses = Callable[[], dict[int, list[str]]]


def read_network(
    sys: str = "/sys",
    begun: str = "/run/kubesolo/dhcp",
    addresses: Addresses | None = None,
    around: Around | None = None,
) -> Network:
    """What there is now. ``begun`` is the folder in which is noted when DHCP began to ask for an
    interface's address, in seconds since the boot."""
    around = around or Around()
    found: dict[int, list[str]] = {}
    with suppress(OSError):
        found = (addresses or read_addresses)()
    folder = f"{sys}/class/net"
    names = sorted(_entries(folder), key=lambda name: (_number(f"{folder}/{name}/ifindex"), name))
    setup = read_setup(around.setup)
    interfaces = []
    for name in names:
        kind = setup.kinds.get(name, CARD)
        if kind != CARD or os.path.exists(f"{folder}/{name}/device"):
            entry = _interface(f"{folder}/{name}", found, begun)
            device = entry.device if kind == CARD else f"{kind} {name}"
            interfaces.append(entry._replace(mode=setup.mode(name), kind=kind, device=device))
    unbound = [*_unbound_pci(sys), *_unbound_virtio(sys), *_unbound_usb(sys)]
    pulled = {entry.name for entry in interfaces if entry.link is False}
    routes = default_routes(around.kernel)
    if routes is not None:
        routes = tuple(route for route in routes if route.interface not in pulled)
    servers, search = name_servers(around.resolver)
    return Network(tuple(interfaces), tuple(unbound), routes, servers, search, setup.problems)


def device_exists(device: str, sys: str = "/sys") -> bool:
    """Whether an interface's ``device`` is still on its bus."""
    bus, _, address = device.partition(" ")
    return os.path.exists(f"{sys}/bus/{bus}/devices/{address}")


def _interface(path: str, addresses: dict[int, list[str]], begun: str) -> Interface:
    name = os.path.basename(path)
    own = tuple(addresses.get(_number(f"{path}/ifindex"), ()))
    carrier = _text(f"{path}/carrier")
    speed = _number(f"{path}/speed")
    return Interface(
        name,
        _link(f"{path}/device/driver"),
        _text(f"{path}/address") or "",
        _place(f"{path}/device"),
        None if carrier is None else carrier == "1",
        speed if speed > 0 else None,
        own,
        None if own else _waited(f"{begun}/{name}"),
    )


def _place(device: str) -> str:
    """Bus and address of the device, or of the PCI device that it is the face of."""
    path = os.path.realpath(device)
    if _link(f"{path}/subsystem") == "virtio" and _link(f"{path}/../subsystem") == "pci":
        path = os.path.dirname(path)
    bus = _link(f"{path}/subsystem") or "bus"
    return f"{bus} {os.path.basename(path)}"


def _waited(noted: str) -> int | None:
    try:
        with open(noted) as file:
            began = float(file.read())
        with open("/proc/uptime") as file:
            now = float(file.read().split()[0])
    except (OSError, ValueError):
        return None
    return max(0, int(now - began))


def _unbound_pci(sys: str) -> Iterator[Unbound]:
    folder = f"{sys}/bus/pci/devices"
    for name in sorted(_entries(folder)):
        path = f"{folder}/{name}"
        kind = _text(f"{path}/class") or ""
        if kind.startswith(_PCI_NETWORK) and not os.path.exists(f"{path}/driver"):
            yield Unbound(f"pci {name}", _pci_id(path))


def _unbound_virtio(sys: str) -> Iterator[Unbound]:
    folder = f"{sys}/bus/virtio/devices"
    for name in sorted(_entries(folder)):
        path = f"{folder}/{name}"
        is_network = _text(f"{path}/device") == _VIRTIO_NETWORK
        if is_network and not os.path.exists(f"{path}/driver"):
            place = _place(path)
            parent = os.path.dirname(os.path.realpath(path))
            yield Unbound(place, _pci_id(parent) if place.startswith("pci ") else "virtio network")


def _unbound_usb(sys: str) -> Iterator[Unbound]:
    folder = f"{sys}/bus/usb/devices"
    for name in sorted(_entries(folder)):
        path = f"{folder}/{name}"
        kind = (_text(f"{path}/bInterfaceClass"), _text(f"{path}/bInterfaceSubClass"))
        if kind in _USB_NETWORK and not os.path.exists(f"{path}/driver"):
            parent = os.path.dirname(os.path.realpath(path))
            ids = (_text(f"{parent}/idVendor"), _text(f"{parent}/idProduct"))
            yield Unbound(f"usb {name}", ":".join(part or "?" for part in ids))


def _pci_id(path: str) -> str:
    parts = (_text(f"{path}/vendor"), _text(f"{path}/device"))
    return ":".join((part or "?").removeprefix("0x") for part in parts)


def _entries(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _link(path: str) -> str | None:
    """The name of what a link leads to."""
    try:
        return os.path.basename(os.readlink(path))
    except OSError:
        return None


def _text(path: str) -> str | None:
    """None where it cannot be read, as the carrier of an interface that is switched off."""
    try:
        with open(path) as file:
            return file.read().strip()
    except (OSError, ValueError):
        return None


def _number(path: str) -> int:
    try:
        return int(_text(path) or 0)
    except ValueError:
        return 0


def read_addresses() -> dict[int, list[str]]:
    """Addresses with their prefix by the interface's index, those of the link's scope left out.
    Raises OSError."""
    found: dict[int, list[str]] = {}
    kernel = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW, _socket.NETLINK_ROUTE)
    try:
        kernel.settimeout(_SECONDS)
        kernel.bind((0, 0))
        size = _HEADER.size + _ADDRESS.size
        flags = _NLM_F_REQUEST | _NLM_F_DUMP
        request = _HEADER.pack(size, _RTM_GETADDR, flags, 1, 0) + _ADDRESS.pack(0, 0, 0, 0, 0)
        kernel.sendto(request, (0, 0))
        while True:
            for kind, body in _messages(kernel.recv(65536)):
                if kind == _NLMSG_DONE:
                    return found
                if kind == _NLMSG_ERROR:
                    number = -struct.unpack_from("=i", body)[0]
                    raise OSError(number, os.strerror(number))
                if kind == _RTM_NEWADDR and (entry := _address(body)):
                    found.setdefault(entry[0], []).append(entry[1])
    finally:
        kernel.close()


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and body of each netlink message."""
    position = 0
    while position + _HEADER.size <= len(data):
        length, kind, *_ = _HEADER.unpack_from(data, position)
        if length < _HEADER.size:
            return
        yield kind, data[position + _HEADER.size : position + length]
        position += (length + 3) & ~3


def _address(body: bytes) -> tuple[int, str] | None:
    """Index and address with prefix; None for one that leads nowhere, or of another family."""
    if len(body) < _ADDRESS.size:
        return None
    family, prefix, _, scope, index = _ADDRESS.unpack_from(body)
    if scope >= _LINK_SCOPE:
        return None
    values = dict(_attributes(body[_ADDRESS.size :]))
    # On a point-to-point link IFA_ADDRESS is the other end's.
    raw = values.get(_IFA_LOCAL) or values.get(_IFA_ADDRESS)
    if raw is None or len(raw) != _ADDRESS_BYTES.get(family):
        return None
    return index, f"{_socket.inet_ntop(family, raw)}/{prefix}"


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, position)
        if length < _ATTRIBUTE.size:
            return
        yield kind, data[position + _ATTRIBUTE.size : position + length]
        position += (length + 3) & ~3
