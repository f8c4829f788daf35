"""Shapes of one interface of network-config version 2, the subset of netplan that a node has."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from product.cloudinit import hosts
from product.cloudinit.checking import Flag, Model, between, shown
from product.cloudinit.errors import Faults
from product.cloudinit.netplan_keys import BOND_MODES

_GLOB = re.compile(r"[A-Za-z0-9._*?\[\]!^-]{1,64}")


def _glob(value: object) -> str:
    text = hosts.require_text(value)
    if not _GLOB.fullmatch(text):
        raise ValueError(f"{shown(text)} is not a name of an interface, such as eth0 or e*")
    return text


def _destination(value: object) -> str:
    """``default``, or a network with its prefix; a lone address is a network of one."""
    text = hosts.require_text(value)
    if text in ("default", "0.0.0.0/0", "::/0"):
        return text
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        pass
    try:
        better = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{shown(text)} is neither default nor a network") from None
    raise ValueError(f"{shown(text)} is an address within a network; write {better}")


def _gateway4(value: object) -> str:
    return _gateway(value, 4)


def _gateway6(value: object) -> str:
    return _gateway(value, 6)


def _gateway(value: object, version: int) -> str:
    found = hosts.address(value)
    if found.version != version:
        raise ValueError(f"{shown(value)} is not an IPv{version} address")
    return str(found)


def _bond_mode(value: object) -> str:
    text = hosts.require_text(value)
    if text not in BOND_MODES:
        raise ValueError(f"{shown(text)} is none of {', '.join(BOND_MODES)}")
    return text


def _nameservers(value: object) -> object:
    if isinstance(value, (str, list)):
        example = value if isinstance(value, str) else "10.20.0.1"
        raise ValueError(
            f"needs a mapping, found {'text' if isinstance(value, str) else 'a list'}; "
            f"write nameservers: {{addresses: [{example:.40}]}}"
        )
    return value


def _driver(value: object) -> None:
    raise ValueError("a card is found by name or macaddress, not by its driver")


Address = Annotated[hosts.Interface, BeforeValidator(hosts.interface)]
Server = Annotated[str, BeforeValidator(hosts.server_address)]
Domain = Annotated[str, BeforeValidator(hosts.dns_name)]
Mac = Annotated[str, BeforeValidator(hosts.mac_address)]


class RouteShape(Model):
    to: Annotated[str, BeforeValidator(_destination)]
    via: Annotated[str, BeforeValidator(lambda value: str(hosts.address(value)))]
    on_link: Flag | None = Field(default=None, alias="on-link")
    metric: Annotated[int, between(0, 4294967295)] | None = None

    @model_validator(mode="after")
    def _one_family(self) -> RouteShape:
        if self.to != "default" and (":" in self.to) != (":" in self.via):
            raise Faults([(("via",), f"{self.via} is not of the same IP version as {self.to}")])
        return self

    @property
    def target(self) -> str:
        """``default`` whichever way it was written."""
        return "default" if self.to in ("0.0.0.0/0", "::/0") else self.to


class NameserversShape(Model):
    addresses: tuple[Server, ...] | None = None
    search: tuple[Domain, ...] | None = None


class MatchShape(Model):
    name: Annotated[str, BeforeValidator(_glob)] | None = None
    macaddress: Mac | None = None
    driver: Annotated[None, BeforeValidator(_driver)] = None


class CommonShape(Model):
    """What every kind of interface may have."""

    dhcp4: Flag | None = None
    dhcp6: Flag | None = None
    accept_ra: Flag | None = Field(default=None, alias="accept-ra")
    addresses: tuple[Address, ...] | None = None
    gateway4: Annotated[str, BeforeValidator(_gateway4)] | None = None
    gateway6: Annotated[str, BeforeValidator(_gateway6)] | None = None
    routes: tuple[RouteShape, ...] | None = None
    nameservers: Annotated[NameserversShape | None, BeforeValidator(_nameservers)] = None
    mtu: Annotated[int, between(68, 65535)] | None = None
    optional: Flag | None = None


class EthernetShape(CommonShape):
    match: MatchShape | None = None


class VlanShape(CommonShape):
    id: Annotated[int, between(1, 4094)]
    link: hosts.Text


class BondParametersShape(Model):
    mode: Annotated[str, BeforeValidator(_bond_mode)] = "balance-rr"
    miimon: Annotated[int, between(0, 60000)] | None = Field(
        default=None, alias="mii-monitor-interval"
    )
    primary: hosts.Text | None = None


class BondShape(CommonShape):
    interfaces: tuple[hosts.Text, ...]
    parameters: BondParametersShape | None = None


SHAPES: dict[str, Any] = {
    "ethernets": EthernetShape,
    "vlans": VlanShape,
    "bonds": BondShape,
}
KINDS = {"ethernets": "ethernet", "vlans": "vlan", "bonds": "bond"}


class ShortShape(Model):
    """The short form of user-data's ``network``."""

    mode: hosts.Text | None = None
    interface: Annotated[str, BeforeValidator(_glob)] | None = None
    address: Address | None = None
    gateway: Annotated[str, BeforeValidator(lambda value: str(hosts.address(value)))] | None = None
    dns: tuple[Server, ...] | None = None
    search: tuple[Domain, ...] | None = None

    @model_validator(mode="before")
    @classmethod
    def _lists(cls, value: Any) -> Any:
        """``dns`` and ``search`` may be text with commas or blanks."""
        if not isinstance(value, dict):
            return value
        lists = {
            key: [part for part in re.split(r"[,\s]+", value[key]) if part]
            for key in ("dns", "search")
            if isinstance(value.get(key), str)
        }
        return {**value, **lists}

    @model_validator(mode="after")
    def _together(self) -> ShortShape:
        faults: list[tuple[tuple[str | int, ...], str]] = []
        mode = self.mode or ("static" if self.address else "dhcp")
        if mode not in ("dhcp", "static"):
            faults.append((("mode",), f"{shown(mode)} is neither dhcp nor static"))
        elif mode == "static" and not self.address:
            faults.append((("address",), "is missing: mode static needs it, with its prefix"))
        elif mode == "dhcp":
            for key in ("address", "gateway"):
                if getattr(self, key):
                    faults.append(((key,), "needs mode: static"))
        if faults:
            raise Faults(faults)
        return self
