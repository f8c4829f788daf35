"""The network that a node should have: what ``network.json`` says."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from product.cloudinit.errors import Problem


@dataclass(frozen=True, slots=True)
class Route:
    """``to`` is ``default`` or a network with its prefix."""

    to: str
    via: str
    on_link: bool = False
    metric: int | None = None

    def document(self) -> dict[str, object]:
        return {"to": self.to, "via": self.via, "on_link": self.on_link, "metric": self.metric}


@dataclass(frozen=True, slots=True)
class Vlan:
    """``link`` is the id of the interface that carries it."""

    id: int
    link: str

    def document(self) -> dict[str, object]:
        return {"id": self.id, "link": self.link}


@dataclass(frozen=True, slots=True)
class Bond:
    """``interfaces`` and ``primary`` are ids; ``miimon`` is in milliseconds."""

    interfaces: tuple[str, ...]
    mode: str
    miimon: int
    primary: str | None

    def document(self) -> dict[str, object]:
        return {
            "interfaces": list(self.interfaces),
            "mode": self.mode,
            "miimon": self.miimon,
            "primary": self.primary,
        }


@dataclass(frozen=True, slots=True)
class Interface:
    """One card, VLAN or bond; ``name`` is a glob, None where the hardware address alone counts."""

    id: str
    kind: str = "ethernet"
    name: str | None = None
    macaddress: str | None = None
    dhcp4: bool = False
    dhcp6: bool = False
    accept_ra: bool | None = None
    addresses: tuple[str, ...] = ()
    routes: tuple[Route, ...] = ()
    nameservers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    mtu: int | None = None
    optional: bool = False
    vlan: Vlan | None = None
    bond: Bond | None = None

    @property
    def match(self) -> dict[str, str] | None:
        """What a card is found by; None for what the node makes itself."""
        found = {"name": self.name, "macaddress": self.macaddress}
        return {key: value for key, value in found.items() if value is not None} or None

    def document(self) -> dict[str, object]:
        """Its entry in network.json."""
        entry: dict[str, object] = {
            "id": self.id,
            "kind": self.kind,
            "match": self.match,
            "dhcp4": self.dhcp4,
            "dhcp6": self.dhcp6,
            "accept_ra": self.accept_ra,
            "addresses": list(self.addresses),
            "routes": [route.document() for route in self.routes],
            "nameservers": {"addresses": list(self.nameservers), "search": list(self.search)},
            "mtu": self.mtu,
            "optional": self.optional,
        }
        if self.vlan is not None:
            entry["vlan"] = self.vlan.document()
        if self.bond is not None:
            entry["bond"] = self.bond.document()
        return entry


@dataclass(frozen=True, slots=True)
class Network:
    """All interfaces; none means DHCP on every card."""

    interfaces: tuple[Interface, ...] = ()
    notes: tuple[Problem, ...] = field(default=(), compare=False)

    def to_json(self) -> str:
        """network.json, schema 1."""
        document = {"schema": 1, "interfaces": [each.document() for each in self.interfaces]}
        return json.dumps(document, indent=2) + "\n"
