"""Names and addresses of hosts, as Kubernetes and the resolver take them."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated

from pydantic import BeforeValidator

from product.cloudinit.checking import shown

LABEL_MAX = 63
_ALLOWED = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


def require_text(value: object) -> str:
    """Raises ValueError for a list, a mapping, nothing, and an empty text."""
    if not isinstance(value, str):
        raise ValueError(f"needs text, found {shown(value)}")
    if not value.strip():
        raise ValueError("is empty")
    return value


def host_name(value: object) -> str:
    """A host's name: one label, or several between dots. Raises ValueError."""
    text = require_text(value)
    if is_address(text):
        raise ValueError(f"{shown(text)} is an address, not a name")
    for label in text.split("."):
        _label(label, text)
    if text.split(".")[0] == "localhost":
        raise ValueError(f"{shown(text)} is the name of every machine; give the node its own")
    return text


def _label(label: str, text: str) -> None:
    if not label:
        raise ValueError(f"{shown(text)} has a dot too many")
    if len(label) > LABEL_MAX:
        raise ValueError(f"{shown(text)} has {len(label)} letters; at most {LABEL_MAX} are allowed")
    strange = [letter for letter in label if letter not in _ALLOWED]
    if strange and set(label.lower()) <= _ALLOWED:
        raise ValueError(
            f"{shown(text)} has capitals, which Kubernetes refuses; write {text.lower()}"
        )
    if strange:
        better = label.lower().replace("_", "-").strip("-")
        advice = f"; write {better}" if better and set(better) <= _ALLOWED else ""
        raise ValueError(
            f"{shown(text)} has {strange[0]!r}; a name has a-z, 0-9 and hyphens{advice}"
        )
    if label[0] == "-" or label[-1] == "-":
        raise ValueError(f"{shown(text)}: a name neither begins nor ends with a hyphen")


def dns_name(value: object) -> str:
    """A name in the DNS: like a host's, but capitals are folded. Raises ValueError."""
    text = require_text(value).lower().rstrip(".")
    if len(text) > 253:
        raise ValueError(f"{shown(text)} has {len(text)} letters; a DNS name has at most 253")
    for label in text.split("."):
        _label(label, text)
    return text


def is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def address(value: object) -> Address:
    """An IPv4 or IPv6 address without a prefix. Raises ValueError."""
    text = require_text(value)
    if "/" in text:
        raise ValueError(f"{shown(text)} has a prefix; write the address alone")
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f"{shown(text)} is not an IP address") from None
    if found.is_multicast or found.is_unspecified or found.is_loopback or _scope(found):
        raise ValueError(f"{shown(text)} is not the address of one other host")
    return found


def server_address(value: object) -> str:
    """The address of a DNS server; loopback is one, too. Raises ValueError."""
    text = require_text(value)
    if text.startswith("127.") or text == "::1":
        return text
    return str(address(text))


def interface(value: object) -> Interface:
    """An address with its prefix, ``10.20.0.5/24``. Raises ValueError."""
    text = require_text(value)
    bare, slash, prefix = text.partition("/")
    if not slash:
        if not is_address(text):
            raise ValueError(f"{shown(text)} is not an address with a prefix, such as 10.20.0.5/24")
        example = f"{text}/64" if ":" in text else f"{text}/24"
        raise ValueError(f"{shown(text)} has no prefix; write {example}, if that is its network")
    if not (prefix.isascii() and prefix.isdigit()):
        if is_address(prefix) and is_address(bare):
            raise ValueError(
                f"{shown(text)}: the prefix is a number of bits, not a mask{_bits(prefix)}"
            )
        raise ValueError(f"{shown(text)} is not an address with a prefix, such as 10.20.0.5/24")
    try:
        found = ipaddress.ip_interface(text)
    except ValueError:
        raise ValueError(f"{shown(text)} is not an IP address with a prefix") from None
    special = found.ip.is_multicast or found.ip.is_unspecified or found.ip.is_loopback
    if special or _scope(found) or not found.network.prefixlen:
        raise ValueError(f"{shown(text)} cannot be an interface's address")
    return found


def _bits(mask: str) -> str:
    try:
        return f": /{ipaddress.ip_network(f'0.0.0.0/{mask}').prefixlen}"
    except ValueError:
        return ""


def _scope(found: object) -> bool:
    return getattr(found, "scope_id", None) is not None


def host_and_port(value: object) -> str:
    """``HOST``, ``HOST:PORT``, an address, or ``[IPV6]:PORT``. Raises ValueError."""
    text = require_text(value)
    if is_address(text):
        return text
    host, colon, port = text.rpartition(":")
    if not colon:
        host, port = text, "123"
    if not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536):
        raise ValueError(f"{shown(text)}: {shown(port)} is not a port")
    if host.startswith("[") and host.endswith("]") and is_address(host[1:-1]):
        return text
    if not is_address(host):
        if "/" in host:
            raise ValueError(f"{shown(text)} is not a host; write its name or address alone")
        dns_name(host)
    return text


def mac_address(value: object) -> str:
    """A hardware address, lower case between colons. Raises ValueError."""
    text = require_text(value).strip().lower().replace("-", ":")
    if not re.fullmatch(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", text):
        raise ValueError(f"{shown(value)} is not a hardware address, such as 52:54:00:12:34:56")
    return text


HostName = Annotated[str, BeforeValidator(host_name)]
Text = Annotated[str, BeforeValidator(require_text)]
