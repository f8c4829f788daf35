"""Which servers a pod may name: none that only the node itself, or its link, can reach.

The agent asks as root of the host, and says in its errors how a server answered. So a pod's server,
and whatever it redirects to, is judged by the address that is connected to, not by its name.
``pod_servers`` of update.conf names exceptions by host, or host and port, as a URL would.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from product.agent.errors import AgentError
from product.agent.net.urls import PORTS

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address

    from product.agent.config import Config
    from product.agent.net.sockets import Permit


def permit_for(config: Config) -> Permit | None:
    """What judges the addresses of ``config``'s server; None where the node's owner named it."""
    if not config.server_from_pod:
        return None
    allowed = {_entry(entry) for entry in config.pod_servers.replace(",", " ").split()}

    def permit(host: str, port: int, address: str) -> None:
        named = host.lower()
        if (named, port) in allowed or ((named, None) in allowed and port in PORTS.values()):
            return
        if _is_own(address):
            shown = host if host == address else f"{host} ({address})"
            raise AgentError(
                f"a pod may not name the server {shown}: it is the node's own, or of its link",
                code="server-refused",
                hint="pod_servers= in update.conf names exceptions",
            )

    return permit


def _entry(text: str) -> tuple[str, int | None]:
    """Host and port of an entry, which settings.check_value has let pass."""
    if text.endswith("]") or ":" not in text:
        return text.strip("[]").lower(), None
    host, _, port = text.rpartition(":")
    return host.strip("[]").lower(), int(port)


def _is_own(address: str) -> bool:
    """Whether it is loopback, of the link, or no address of one machine at all."""
    from ipaddress import ip_address

    found = ip_address(address.partition("%")[0])
    return any(map(_is_special, (found, *_inside(found))))


def _is_special(address: IPv4Address | IPv6Address) -> bool:
    return (
        address.is_loopback
        or address.is_link_local
        or address.is_unspecified
        or address.is_multicast
        or (address.version == 4 and (int(address) >> 24 == 0 or address.is_reserved))
    )


def _inside(address: IPv4Address | IPv6Address) -> list[IPv4Address]:
    """IPv4 addresses that an IPv6 one leads to: mapped, compatible, NAT64, 6to4."""
    from ipaddress import IPv4Address, IPv6Address

    if not isinstance(address, IPv6Address):
        return []
    number = int(address)
    found = [embedded for embedded in (address.ipv4_mapped, address.sixtofour) if embedded]
    if number >> 32 in (0, 0x64FF9B << 64):
        found.append(IPv4Address(number & 0xFFFFFFFF))
    return found
