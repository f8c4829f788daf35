"""From what is configured and what cards there are: what to do. Pure."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from product.netconf.cards import Card
from product.netconf.document import BOND, ETHERNET, Configured, Route

FILE = "/etc/kubesolo/network.json"
# dhcpcd's rule for an interface without a metric of its own: the kernel's first card goes first.
METRIC_BASE = 1000
# Not an interface's to take: loopback, and what sysctl calls all of them and those to come.
_KERNELS = ("lo", "all", "default")
DHCP, STATIC, BOTH, LINK = "dhcp", "static", "dhcp+static", "link"


class Step(NamedTuple):
    """One command; ``what`` it is for, as a problem names it where the command fails."""

    argv: tuple[str, ...]
    what: str


class Setting(NamedTuple):
    """A file under /proc/sys/net and its value."""

    path: str
    value: str


class PlannedRoute(NamedTuple):
    """A route of an interface."""

    interface: str
    route: Route

    def step(self, index: int) -> Step:
        """The command; ``index`` is the interface's number, which an unset metric follows."""
        to, via, on_link, metric = self.route
        six = ":" in (via or to)
        words = ["ip", "-6" if six else "-4", "route", "replace", to]
        text = to
        if via is not None:
            words += ["via", via]
            text += f" via {via}"
        words += ["dev", self.interface]
        if on_link and via is not None:
            words.append("onlink")
        words += ["metric", str(METRIC_BASE + index if metric is None else metric)]
        return Step((*words, "proto", "static"), f"{self.interface}: the route to {text}")


class Asked(NamedTuple):
    """An interface that the DHCP client has to do with."""

    interface: str
    dhcp4: bool = True
    dhcp6: bool | None = None
    accept_ra: bool | None = None


class Servers(NamedTuple):
    """Configured name servers and search domains of one interface."""

    interface: str
    servers: tuple[str, ...]
    search: tuple[str, ...]


class Plan(NamedTuple):
    """In this order: make, then set, then switch on, then addresses, then routes.

    ``modes`` has "dhcp", "static", "dhcp+static" or "link" for each interface, ``kinds`` its kind.
    ``fallback``: nothing that is configured fits, and every card asks by DHCP.
    """

    make: tuple[Step, ...] = ()
    settings: tuple[Setting, ...] = ()
    switch_on: tuple[Step, ...] = ()
    addresses: tuple[Step, ...] = ()
    routes: tuple[PlannedRoute, ...] = ()
    asked: tuple[Asked, ...] = ()
    servers: tuple[Servers, ...] = ()
    modes: Mapping[str, str] = {}
    kinds: Mapping[str, str] = {}
    static: tuple[tuple[str, str], ...] = ()
    problems: tuple[str, ...] = ()
    fallback: bool = False


def fall_back(cards: Sequence[Card], *problems: str) -> Plan:
    """DHCP on every card."""
    return Plan(
        asked=tuple(Asked(card.name) for card in cards),
        modes={card.name: DHCP for card in cards},
        kinds={card.name: ETHERNET for card in cards},
        problems=problems,
        fallback=True,
    )


def make_plan(
    configured: Sequence[Configured], cards: Sequence[Card], names: frozenset[str]
) -> Plan:
    """``names``: the interfaces that there are, which are not made again."""
    possible, problems = _possible(configured, cards)
    placed, more = place(possible, cards)
    problems += more
    useless = len(possible) < len(configured) and not any(
        one.asks or one.addresses for one in possible
    )
    if useless or not any(placed.values()):
        if cards:
            what = "gives this machine an address" if useless else "fits a card of this machine"
            problems.append(f"nothing in {FILE} {what}: DHCP is asked on all of them")
        return fall_back(cards, *problems)
    return _Planning(possible, placed, names, problems).plan()


def _possible(
    configured: Sequence[Configured], cards: Sequence[Card]
) -> tuple[list[Configured], list[str]]:
    """What is left without bonds and VLANs whose name is somebody else's; sentences on the rest."""
    hardware = {card.name for card in cards}
    possible, problems = [], []
    for one in configured:
        if one.kind == ETHERNET or one.id not in hardware.union(_KERNELS):
            possible.append(one)
        elif one.id in hardware:
            problems.append(f"{one.id}: a card of this machine has that name already, so nothing "
                            "else is made under it")  # fmt: skip
        else:
            problems.append(f"{one.id}: the kernel keeps that name for itself, so it is not made")
    return possible, problems


def place(
    configured: Sequence[Configured], cards: Sequence[Card]
) -> tuple[dict[str, tuple[Card, ...]], list[str]]:
    """The cards of each configured ethernet interface, and what does not fit.

    Addresses go before names, and names before patterns; a card serves one entry.
    """
    wanted = [one for one in configured if one.kind == ETHERNET]
    free = list(cards)
    placed: dict[str, tuple[Card, ...]] = {}
    problems = []
    for one in sorted(wanted, key=_vagueness):
        found = tuple(card for card in free if _fits(one, card))
        placed[one.id] = found
        free = [card for card in free if card not in found]
        if found or one.optional or not cards:
            continue
        taken = [card for card in cards if _fits(one, card)]
        if taken:
            others = ", ".join(card.describe() for card in taken)
            problems.append(f"{one.id}: {others} is configured under another id already")
            continue
        there = ", ".join(card.describe() for card in cards)
        problems.append(f"{one.id}: no card has {one.matching()}; there are {there}")
    return placed, problems


def _vagueness(one: Configured) -> int:
    if one.mac is not None:
        return 0
    return 2 if any(sign in (one.name or "") for sign in "*?[") else 1


def _fits(one: Configured, card: Card) -> bool:
    if one.mac is not None and one.mac != card.mac:
        return False
    return one.name is None or fnmatch.fnmatchcase(card.name, one.name)


class _Planning:
    """One walk over what is configured."""

    def __init__(
        self,
        configured: Sequence[Configured],
        placed: Mapping[str, tuple[Card, ...]],
        names: frozenset[str],
        problems: Iterable[str],
    ) -> None:
        self._configured = configured
        self._placed = placed
        self._names = names
        self._problems = list(problems)
        self._make: list[Step] = []
        self._up: list[Step] = []
        self._members = {
            card.name
            for one in configured
            if one.bond
            for member in one.bond.members
            for card in placed.get(member, ())
        }

    def plan(self) -> Plan:
        """Cards first, then what is made of them, each before what stands on it."""
        used: list[tuple[Configured, tuple[str, ...]]] = []
        for one in sorted(self._configured, key=lambda one: _ORDER[one.kind]):
            if found := self._interfaces(one):
                used.append((one, found))
        settings: list[Setting] = []
        addresses: list[Step] = []
        routes: list[PlannedRoute] = []
        asked: list[Asked] = []
        servers: list[Servers] = []
        static: list[tuple[str, str]] = []
        modes: dict[str, str] = {}
        kinds: dict[str, str] = {}
        for one, found in used:
            for number, name in enumerate(found):
                kinds[name] = one.kind
                if name in self._members:
                    modes[name] = LINK
                    continue
                fixed = bool(one.addresses) and number == 0
                modes[name] = _mode(one, fixed)
                settings += _settings(one, name)
                if one.asks:
                    asked.append(Asked(name, one.dhcp4, one.dhcp6, one.accept_ra))
                if not fixed and (number or not one.routes):
                    continue
                for address in one.addresses:
                    addresses.append(_address(name, address))
                    static.append((name, address))
                routes += [PlannedRoute(name, route) for route in one.routes]
            if found and found[0] not in self._members and (one.servers or one.search):
                servers.append(Servers(found[0], one.servers, one.search))
        return Plan(
            tuple(self._make),
            tuple(settings),
            tuple(self._up),
            tuple(addresses),
            tuple(routes),
            tuple(asked),
            tuple(servers),
            modes,
            kinds,
            tuple(static),
            tuple(self._problems),
        )

    def _interfaces(self, one: Configured) -> tuple[str, ...]:
        """The names of what ``one`` becomes; steps that make it and switch it on are noted."""
        if one.kind == ETHERNET:
            return self._cards(one)
        if one.kind == BOND:
            return self._bond(one)
        return self._vlan(one)

    def _cards(self, one: Configured) -> tuple[str, ...]:
        found = tuple(card.name for card in self._placed[one.id])
        if len(found) > 1 and one.addresses:
            self._problems.append(
                f"{one.id}: {', '.join(found)} have {one.matching()}; the addresses are those of "
                f"{found[0]}"
            )
        for name in found:
            if name not in self._members:
                self._switch_on(one, name)
        return found

    def _bond(self, one: Configured) -> tuple[str, ...]:
        bond = one.bond
        assert bond is not None, "a bond has its members"
        members = [card for member in bond.members for card in self._placed[member]]
        if not members:
            self._problems.append(f"{one.id}: none of its members is there")
            return ()
        what = f"{one.id}: the bond"
        if one.id not in self._names:
            # By itself the module makes an interface of its own, bond0.
            self._make.append(Step(("modprobe", "-q", "bonding", "max_bonds=0"), what))
            words = ("mode", bond.mode, "miimon", str(bond.miimon))
            self._make.append(Step(("ip", "link", "add", one.id, "type", "bond", *words), what))
        for card in members:
            if card.master != one.id:
                what = f"{one.id}: its member {card.name}"
                self._make.append(Step(("ip", "link", "set", card.name, "down"), what))
                self._make.append(Step(("ip", "link", "set", card.name, "master", one.id), what))
        if bond.primary and (primary := self._placed[bond.primary]):
            chosen = ("type", "bond", "primary", primary[0].name)
            step = Step(("ip", "link", "set", one.id, *chosen), f"{one.id}: its primary member")
            self._make.append(step)
        self._switch_on(one, one.id)
        return (one.id,)

    def _vlan(self, one: Configured) -> tuple[str, ...]:
        vlan = one.vlan
        assert vlan is not None, "a VLAN has its link"
        below = self._placed.get(vlan.link)
        made = {step.argv[3] for step in self._make if step.argv[:3] == ("ip", "link", "add")}
        if below is None:
            ids = {other.id for other in self._configured}
            link = vlan.link if vlan.link in ids & (made | self._names) else None
        else:
            link = below[0].name if below else None
        if link is None:
            self._problems.append(f"{one.id}: {vlan.link}, on which it stands, is not there")
            return ()
        if one.id not in self._names:
            tagged = ("name", one.id, "type", "vlan", "id", str(vlan.tag))
            what = f"{one.id}: the VLAN {vlan.tag} on {link}"
            self._make.append(Step(("ip", "link", "add", "link", link, *tagged), what))
        self._switch_on(one, one.id)
        return (one.id,)

    def _switch_on(self, one: Configured, name: str) -> None:
        if one.mtu is not None:
            words = ("ip", "link", "set", name, "mtu", str(one.mtu))
            self._up.append(Step(words, f"{name}: the MTU {one.mtu}"))
        self._up.append(Step(("ip", "link", "set", name, "up"), name))


_ORDER = {ETHERNET: 0, BOND: 1, "vlan": 2}


def _mode(one: Configured, fixed: bool) -> str:
    if one.asks:
        return BOTH if fixed else DHCP
    return STATIC if fixed else LINK


def _settings(one: Configured, name: str) -> list[Setting]:
    # The routes of a card whose cable was pulled must not be in the way of another's.
    found = [
        Setting(f"{ip}/conf/{name}/ignore_routes_with_linkdown", "1") for ip in ("ipv4", "ipv6")
    ]
    if one.accept_ra is False:
        found.append(Setting(f"ipv6/conf/{name}/accept_ra", "0"))
    return found


def _address(name: str, address: str) -> Step:
    six = ":" in address
    words = ["ip", "-6" if six else "-4", "addr", "replace", address]
    if not six and not address.endswith(("/31", "/32")):
        words += ["broadcast", "+"]
    return Step((*words, "dev", name), f"{name}: the address {address}")
