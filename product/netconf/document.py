"""``/etc/kubesolo/network.json``: schema 1, as docs/decisions/0017 has it.

Whoever wrote the file has checked it by a schema with better messages; here it is checked again
only so far that nothing in it can do harm, because a person may have edited it on the node. Plain
code instead of pydantic: a boot cannot wait seconds for a model of this.
"""

from __future__ import annotations

import ipaddress
import json
import re
from typing import Any, NamedTuple, NoReturn

from product.netconf.errors import NetworkFileError

ETHERNET, VLAN, BOND = "ethernet", "vlan", "bond"
_KINDS = (ETHERNET, VLAN, BOND)
# What the kernel takes as an interface's name, without what a shell or a path could misread.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,14}")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DOMAIN = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,252}[A-Za-z0-9])?\.?")
_MODES = ("balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb",
          "balance-alb")  # fmt: skip
MAX_BYTES = 256 * 1024


class Route(NamedTuple):
    """``to`` is "default" or a network; ``via`` None: on the link itself."""

    to: str
    via: str | None
    on_link: bool = False
    metric: int | None = None


class Vlan(NamedTuple):
    """A tag (1 to 4094) on another configured interface."""

    tag: int
    link: str


class Bond(NamedTuple):
    """Members by their ids; ``miimon`` in milliseconds."""

    members: tuple[str, ...]
    mode: str
    miimon: int
    primary: str | None = None


class Configured(NamedTuple):
    """One interface as it was asked for; ``name`` and ``mac`` are what a card is matched by."""

    id: str
    kind: str = ETHERNET
    name: str | None = None
    mac: str | None = None
    dhcp4: bool = False
    dhcp6: bool = False
    accept_ra: bool | None = None
    addresses: tuple[str, ...] = ()
    routes: tuple[Route, ...] = ()
    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    mtu: int | None = None
    optional: bool = False
    vlan: Vlan | None = None
    bond: Bond | None = None

    @property
    def asks(self) -> bool:
        """Whether the DHCP client has to do with it."""
        return self.dhcp4 or self.dhcp6 or self.accept_ra is True

    def matching(self) -> str:
        """How a card is recognised, for people."""
        parts = []
        if self.name is not None:
            parts.append(f"the name {self.name}")
        if self.mac is not None:
            parts.append(f"the address {self.mac}")
        return " and ".join(parts)


def read_configured(path: str) -> tuple[Configured, ...] | None:
    """None where there is no file. Raises NetworkFileError."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise NetworkFileError(f"{path} cannot be read: {error.strerror or error}") from None
    if len(data) > MAX_BYTES:
        raise NetworkFileError(f"{path} has more than {MAX_BYTES} bytes")
    try:
        return parse(data)
    except NetworkFileError as error:
        raise NetworkFileError(f"{path}: {error.message}", hint=error.hint) from None


def parse(data: bytes) -> tuple[Configured, ...]:
    """Raises NetworkFileError."""
    try:
        document = json.loads(data.decode("utf-8-sig"))
        # JSON can spell half a character, which nothing could print.
        json.dumps(document, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        _refuse(f"it is no JSON ({error!s:.100})")
    if not isinstance(document, dict) or document.get("schema") != 1:
        _refuse("it is no network of schema 1")
    entries = document.get("interfaces")
    if not isinstance(entries, list):
        _refuse("it has no list of interfaces")
    found: dict[str, Configured] = {}
    for number, entry in enumerate(entries, 1):
        where = f"interface {number}"
        if isinstance(entry, dict) and isinstance(entry.get("id"), str):
            where = f"interface {entry['id']!r}"
        try:
            one = _interface(entry)
        except (KeyError, TypeError, ValueError) as error:
            text = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
            _refuse(f"{where}: {text}")
        except AttributeError:
            _refuse(f"{where}: a value where an object of several was expected")
        if one.id in found:
            _refuse(f"{where}: there are two of this id")
        found[one.id] = one
    _check_links(found)
    return tuple(found.values())


def _refuse(text: str) -> NoReturn:
    raise NetworkFileError(text, hint="docs/network.md describes the file")


def _check_links(found: dict[str, Configured]) -> None:
    """What VLANs and bonds name is there, and no card is in two bonds."""
    taken: dict[str, str] = {}
    for one in found.values():
        if one.vlan and (one.vlan.link not in found or one.vlan.link == one.id):
            _refuse(f"interface {one.id!r}: no interface has the id {one.vlan.link!r}")
        if one.vlan and found[one.vlan.link].kind == VLAN:
            _refuse(f"interface {one.id!r}: {one.vlan.link!r} is a VLAN itself")
        if one.bond is None:
            continue
        for member in one.bond.members:
            if member not in found or found[member].kind != ETHERNET:
                _refuse(f"interface {one.id!r}: no card has the id {member!r}")
            if member in taken:
                _refuse(f"interface {one.id!r}: {member!r} is in {taken[member]!r} already")
            taken[member] = one.id
        if one.bond.primary is not None and one.bond.primary not in one.bond.members:
            _refuse(f"interface {one.id!r}: {one.bond.primary!r} is none of its members")


def _interface(entry: Any) -> Configured:
    """Raises KeyError, TypeError or ValueError."""
    if not isinstance(entry, dict):
        raise TypeError("it is no object")
    kind = entry.get("kind", ETHERNET)
    if kind not in _KINDS:
        raise ValueError(f"kind is {kind!r} and not one of {', '.join(_KINDS)}")
    identifier = _text(entry["id"], "id", _ID if kind == ETHERNET else _NAME)
    match = entry.get("match")
    if match is None:
        match = {"name": identifier} if kind == ETHERNET else {}
    if not isinstance(match, dict):
        raise TypeError("match is no object")
    name, mac = match.get("name"), match.get("macaddress")
    if kind == ETHERNET and name is None and mac is None:
        raise ValueError("match has neither name nor macaddress")
    servers = entry.get("nameservers") or {}
    mtu = entry.get("mtu")
    return Configured(
        identifier,
        kind,
        None if name is None else _text(name, "match.name"),
        None if mac is None else _text(mac, "match.macaddress").lower(),
        _flag(entry.get("dhcp4", False), "dhcp4"),
        _flag(entry.get("dhcp6", False), "dhcp6"),
        None if (ra := entry.get("accept_ra")) is None else _flag(ra, "accept_ra"),
        tuple(str(ipaddress.ip_interface(_prefixed(a))) for a in entry.get("addresses") or ()),
        tuple(_route(route) for route in entry.get("routes") or ()),
        tuple(str(ipaddress.ip_address(a)) for a in servers.get("addresses") or ()),
        tuple(_text(d, "nameservers.search", _DOMAIN) for d in servers.get("search") or ()),
        None if mtu is None else _number(mtu, "mtu", 68, 65535),
        _flag(entry.get("optional", False), "optional"),
        _vlan(entry["vlan"]) if kind == VLAN else None,
        _bond(entry["bond"]) if kind == BOND else None,
    )


def _route(entry: Any) -> Route:
    to = entry["to"]
    if to in ("0.0.0.0/0", "::/0"):
        to = "default"
    elif to != "default":
        to = str(ipaddress.ip_network(to, strict=False))
    via, metric = entry.get("via"), entry.get("metric")
    if via is None and to == "default":
        raise ValueError("a default route without via")
    return Route(
        to,
        None if via is None else str(ipaddress.ip_address(via)),
        _flag(entry.get("on_link", False), "on_link"),
        None if metric is None else _number(metric, "metric", 0, 2**32 - 1),
    )


def _vlan(entry: Any) -> Vlan:
    return Vlan(_number(entry["id"], "vlan.id", 1, 4094), _text(entry["link"], "vlan.link"))


def _bond(entry: Any) -> Bond:
    mode = entry.get("mode") or "active-backup"
    if mode not in _MODES:
        raise ValueError(f"the bond's mode is {mode!r} and not one of {', '.join(_MODES)}")
    interval, primary = entry.get("miimon"), entry.get("primary")
    members = tuple(_text(member, "bond.interfaces") for member in entry["interfaces"])
    return Bond(
        members,
        mode,
        100 if interval is None else _number(interval, "bond.miimon", 0, 60000),
        None if primary is None else _text(primary, "bond.primary"),
    )


def _prefixed(value: Any) -> str:
    if not isinstance(value, str) or "/" not in value:
        raise ValueError(f"the address {value!r} has no prefix, such as /24")
    return value


def _text(value: Any, what: str, form: re.Pattern[str] | None = None) -> str:
    if not isinstance(value, str) or not (form.fullmatch(value) if form else value):
        raise ValueError(f"{what} is {value!r:.80}, which cannot be used")
    return value


def _flag(value: Any, what: str) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{what} is {value!r:.80} and neither true nor false")
    return value


def _number(value: Any, what: str, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{what} is {value!r:.80} and not a number from {least} to {most}")
    return value
