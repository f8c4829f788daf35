"""What must fit together in a network: gateways and links, members and matches."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence, Set
from typing import NamedTuple, Protocol

from product.cloudinit.document import Path
from product.cloudinit.hosts import Interface as Addressed
from product.cloudinit.netplan_schema import (
    KINDS,
    BondShape,
    CommonShape,
    EthernetShape,
    VlanShape,
)
from product.cloudinit.network import Bond, Interface, Route, Vlan

# Names that udev gives: enp1s0, ens3, eno1, enx525400123456, wlp2s0.
_UDEV = re.compile(r"(en|wl|ww)[opsx][0-9a-f*?\[].*")
# The kernel's, which the node keeps.
_CARD = re.compile(r"(eth|wlan|usb)[0-9]+")
# What bonding's own documentation asks for; 0 would never notice a lost link.
_MIIMON = 100
Note = Callable[[Path, str], None]


class Refuse(Protocol):
    def __call__(self, path: Path, message: str, at_key: bool = False) -> None: ...


class Draft(NamedTuple):
    """An interface whose shape is right."""

    id: str
    section: str
    path: Path
    shape: CommonShape


def assemble(
    drafts: Sequence[Draft], broken: Set[str], refuse: Refuse, note: Note
) -> tuple[Interface, ...]:
    """The interfaces, in the order of the file; what does not fit goes to ``refuse``.

    ``broken`` are ids whose shape is wrong: they are there, and no more is said of them.
    """
    known: dict[str, Draft] = {}
    for draft in drafts:
        if draft.id in known:
            other = known[draft.id].section
            refuse(draft.path, f"{draft.id} is an interface of {other}, too", True)
        known.setdefault(draft.id, draft)
    _names_of_cards(drafts, refuse)
    _matches(drafts, refuse)
    _addresses(drafts, refuse)
    _defaults(drafts, refuse)
    _links(drafts, known, broken, refuse)
    _members(drafts, known, broken, refuse)
    return tuple(_interface(draft, refuse, note) for draft in drafts)


def _names_of_cards(drafts: Sequence[Draft], refuse: Refuse) -> None:
    """A bond or VLAN under a card's name would be that card."""
    shapes = {draft.id: draft.shape for draft in drafts if draft.section == "ethernets"}
    cards = {
        shape.match.name
        for shape in shapes.values()
        if isinstance(shape, EthernetShape) and shape.match
    }
    for draft in drafts:
        # Two interfaces of one id are an error already.
        if draft.id not in shapes and (draft.id in cards or _CARD.fullmatch(draft.id)):
            message = f"{draft.id} is a card's name, and cannot be a new interface's"
            refuse(draft.path, message, True)


def _interface(draft: Draft, refuse: Refuse, note: Note) -> Interface:
    shape = draft.shape
    name, mac = None, None
    vlan, bond = None, None
    if isinstance(shape, EthernetShape):
        name, mac = _match(draft.id, shape)
        _comment_match(draft, name, mac, note)
    if isinstance(shape, VlanShape):
        vlan = Vlan(shape.id, shape.link)
    if isinstance(shape, BondShape):
        parameters = shape.parameters
        miimon = parameters.miimon if parameters else None
        bond = Bond(
            shape.interfaces,
            parameters.mode if parameters else "balance-rr",
            _MIIMON if miimon is None else miimon,
            parameters.primary if parameters else None,
        )
    servers = shape.nameservers
    return Interface(
        draft.id,
        kind=KINDS[draft.section],
        name=name,
        macaddress=mac,
        dhcp4=bool(shape.dhcp4),
        dhcp6=bool(shape.dhcp6),
        accept_ra=shape.accept_ra,
        addresses=tuple(str(address) for address in shape.addresses or ()),
        routes=_routes(draft, refuse, note),
        nameservers=(servers.addresses or ()) if servers else (),
        search=(servers.search or ()) if servers else (),
        mtu=shape.mtu,
        optional=bool(shape.optional),
        vlan=vlan,
        bond=bond,
    )


def _match(identifier: str, shape: EthernetShape) -> tuple[str | None, str | None]:
    """Glob and hardware address; an empty ``match`` is every card, none is the id itself."""
    if shape.match is None:
        return identifier, None
    name, mac = shape.match.name, shape.match.macaddress
    return ("*", None) if name is None and mac is None else (name, mac)


def _comment_match(draft: Draft, name: str | None, mac: str | None, note: Note) -> None:
    if name and mac is None and _UDEV.fullmatch(name):
        note(draft.path, f"{name} is a name as udev gives it; the node has the kernel's, such as "
             "eth0: use match.macaddress or match.name to be sure")  # fmt: skip
    elif name and mac is None and draft.shape.addresses and set(name) & set("*?["):
        note(draft.path, f"every card that fits {name} is meant; name one where there are several")


def _routes(draft: Draft, refuse: Refuse, note: Note) -> tuple[Route, ...]:
    shape = draft.shape
    addresses = shape.addresses or ()
    dynamic = {4: bool(shape.dhcp4), 6: bool(shape.dhcp6) or shape.accept_ra is not False}
    routes = []
    for key, gateway in (("gateway4", shape.gateway4), ("gateway6", shape.gateway6)):
        if gateway is None:
            continue
        here = (*draft.path, key)
        note(here, f"is deprecated; write routes: [{{to: default, via: {gateway}}}]")
        family = 4 if key == "gateway4" else 6
        on_link = is_on_link(gateway, addresses, dynamic[family], here, draft.id, refuse, note)
        routes.append(Route("default", gateway, on_link))
    for number, route in enumerate(shape.routes or ()):
        here = (*draft.path, "routes", number, "via")
        on_link = bool(route.on_link)
        if not on_link:
            family = 6 if ":" in route.via else 4
            on_link = is_on_link(
                route.via, addresses, dynamic[family], here, draft.id, refuse, note
            )
        routes.append(Route(route.target, route.via, on_link, route.metric))
    return tuple(routes)


def is_on_link(
    gateway: str, addresses: Sequence[Addressed], dynamic: bool, path: Path, identifier: str,
    refuse: Refuse, note: Note,
) -> bool:  # fmt: skip
    """Whether the route needs ``on-link``: its gateway lies beyond the only network, a /32 (/128).

    A gateway that nothing of the interface reaches goes to ``refuse``, unless DHCP or a router
    (``dynamic``) may give it a network that nobody knows beforehand.
    """
    found = ipaddress.ip_address(gateway)
    own = [address for address in addresses if address.version == found.version]
    if any(address.ip == found for address in own):
        refuse(path, f"{gateway} is {identifier}'s own address")
        return False
    if found.is_link_local or any(found in address.network for address in own):
        return False
    if own and all(address.network.prefixlen == address.max_prefixlen for address in own):
        note(path, f"{gateway} lies outside of {own[0]}; the route is set on-link")
        return True
    if dynamic:
        return False
    networks = ", ".join(str(address) for address in own)
    if networks:
        refuse(path, f"{gateway} is in no network of {identifier} ({networks}); correct one of "
               "them, or write on-link: true")  # fmt: skip
    else:
        refuse(path, f"{gateway} cannot be reached: {identifier} has no IPv{found.version} address")
    return False


def _matches(drafts: Sequence[Draft], refuse: Refuse) -> None:
    """Two interfaces that are found by the same would be one."""
    seen: dict[tuple[str | None, str | None], str] = {}
    for draft in drafts:
        if not isinstance(draft.shape, EthernetShape):
            continue
        match = _match(draft.id, draft.shape)
        if match in seen:
            refuse(draft.path, f"matches the same card as {seen[match]}", True)
        seen.setdefault(match, draft.id)


def _addresses(drafts: Sequence[Draft], refuse: Refuse) -> None:
    seen: dict[object, str] = {}
    for draft in drafts:
        for number, address in enumerate(draft.shape.addresses or ()):
            if address.ip in seen:
                refuse(
                    (*draft.path, "addresses", number),
                    f"{address.ip} is there twice; {seen[address.ip]} has it, too",
                )
            seen.setdefault(address.ip, draft.id)


def _defaults(drafts: Sequence[Draft], refuse: Refuse) -> None:
    """Two routes of one interface to the same place, with the same metric."""
    for draft in drafts:
        seen: set[tuple[str, str, int | None]] = set()
        for key, gateway in (
            ("gateway4", draft.shape.gateway4),
            ("gateway6", draft.shape.gateway6),
        ):
            if gateway:
                seen.add(("default", key[-1], None))
        for number, route in enumerate(draft.shape.routes or ()):
            mark = (route.target, "6" if ":" in route.via else "4", route.metric)
            if mark in seen:
                refuse(
                    (*draft.path, "routes", number, "to"),
                    f"a route to {route.target} is there already; give one of them a metric",
                )
            seen.add(mark)


def _links(
    drafts: Sequence[Draft], known: dict[str, Draft], broken: Set[str], refuse: Refuse
) -> None:
    seen: dict[tuple[str, int], str] = {}
    for draft in drafts:
        if not isinstance(draft.shape, VlanShape):
            continue
        link, here = draft.shape.link, (*draft.path, "link")
        if link in broken:
            continue
        if link not in known:
            refuse(here, f"{link} is no interface of this file ({_listed(known, draft.id)})")
        elif known[link].section == "vlans":
            refuse(here, f"{link} is a VLAN itself; a VLAN lies on a card or a bond")
        mark = (link, draft.shape.id)
        if mark in seen:
            refuse((*draft.path, "id"), f"{seen[mark]} has VLAN {draft.shape.id} of {link}, too")
        seen.setdefault(mark, draft.id)


def _members(
    drafts: Sequence[Draft], known: dict[str, Draft], broken: Set[str], refuse: Refuse
) -> None:
    taken: dict[str, str] = {}
    for draft in drafts:
        if not isinstance(draft.shape, BondShape):
            continue
        if not draft.shape.interfaces:
            refuse((*draft.path, "interfaces"), "is empty; a bond needs a member")
        for number, member in enumerate(draft.shape.interfaces):
            here = (*draft.path, "interfaces", number)
            if member in broken:
                continue
            if member not in known:
                refuse(here, f"{member} is no interface of this file "
                       f"({_listed(known, draft.id)})")  # fmt: skip
            elif known[member].section != "ethernets":
                refuse(here, f"{member} is of {known[member].section}; members are ethernets")
            elif member in taken:
                refuse(here, f"{member} is a member of {taken[member]} already")
            else:
                _require_bare(known[member], draft.id, refuse)
            taken.setdefault(member, draft.id)
        parameters = draft.shape.parameters
        if parameters and parameters.primary:
            here = (*draft.path, "parameters", "primary")
            if parameters.primary not in draft.shape.interfaces:
                refuse(here, f"{parameters.primary} is no member of {draft.id}")
            elif parameters.mode not in ("active-backup", "balance-tlb", "balance-alb"):
                refuse(here, f"mode {parameters.mode} has no primary")


def _require_bare(member: Draft, bond: str, refuse: Refuse) -> None:
    """A member's addresses would never be used."""
    shape = member.shape
    for key in ("dhcp4", "dhcp6", "addresses", "routes", "gateway4", "gateway6"):
        if getattr(shape, key):
            refuse((*member.path, key), f"{member.id} is a member of {bond}; give it to {bond}",
                   True)  # fmt: skip


def _listed(known: dict[str, Draft], own: str) -> str:
    others = [name for name in known if name != own]
    return f"there is {', '.join(others[:8])}" if others else "there is no other"
