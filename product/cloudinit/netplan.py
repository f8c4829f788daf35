"""network-config version 2 (a subset of netplan), and the short form of user-data.

Everything wrong is found at once: shapes first, interface by interface, then what must fit
together among those whose shape is right.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from product.cloudinit.checking import guess, kind, shown, validate
from product.cloudinit.document import Document, Path, Value
from product.cloudinit.errors import InvalidFileError, Problem, in_order
from product.cloudinit.netplan_checks import Draft, assemble
from product.cloudinit.netplan_keys import (
    BOND_NOTED,
    NOTED,
    REFUSED,
    ROUTE_REFUSED,
    SHORT_REFUSED,
    TOP_NOTED,
    TOP_REFUSED,
)
from product.cloudinit.netplan_schema import SHAPES, ShortShape
from product.cloudinit.network import Interface, Network, Route

_EXAMPLE = "{version: 2, ethernets: {eth0: {dhcp4: true}}}"
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# The kernel's limit (IFNAMSIZ - 1) for what the node itself makes.
_DEVICE_MAX = 14
# Loopback, and what the kernel's settings call all interfaces and those to come.
_KERNELS = ("lo", "all", "default")
# The kernel's first card; short forms name no other.
FIRST_CARD = "eth0"
_TOP = ("version", *SHAPES, *TOP_NOTED, *TOP_REFUSED)


def read_network(document: Document, path: Path, value: Value, short: bool = False) -> Network:
    """The network that ``value``, at ``path``, describes; faults and notes with their places.

    With ``short``, the short form is read, too. Raises InvalidFileError.
    """
    reader = _Reader(document)
    network = reader.read(path, value, short)
    if reader.problems:
        raise InvalidFileError(reader.problems)
    return Network(network, in_order(reader.notes))


class _Reader:
    def __init__(self, document: Document) -> None:
        self.document = document
        self.problems: list[Problem] = []
        self.notes: list[Problem] = []
        self.broken: set[str] = set()

    def read(self, path: Path, value: Value, short: bool) -> tuple[Interface, ...]:
        if value is None:
            return ()
        if not isinstance(value, dict):
            self._refuse(path, f"needs a mapping such as {_EXAMPLE}, found {kind(value)}")
            return ()
        if "network" in value:
            for key in value:
                if key != "network":
                    self._refuse((*path, key), "stands beside network; move it below", True)
            path, value = (*path, "network"), value["network"]
            return self.read(path, value, short)
        if short and not any(key in value for key in ("version", *SHAPES, "config", "wifis")):
            return self._short(path, value)
        if value.get("config") == "disabled":
            self._refuse((*path, "config"), "disabled is not supported: no update could reach "
                         "the node")  # fmt: skip
            return ()
        if not self._is_version_2(path, value):
            return ()
        drafts = []
        for key, section in value.items():
            here = (*path, key)
            if key in SHAPES:
                drafts += self._section(here, key, section)
            elif key in TOP_NOTED:
                self._note(here, TOP_NOTED[key])
            elif key in TOP_REFUSED and section in (None, {}, []):
                self._note(here, "is empty and passed over")
            elif key in TOP_REFUSED:
                self._refuse(here, TOP_REFUSED[key], True)
            elif key != "version":
                self._refuse(here, "unknown key" + guess(key, _TOP), True)
        return assemble(drafts, self.broken, self._refuse, self._note)

    def _is_version_2(self, path: Path, value: Mapping[str, Value]) -> bool:
        version = value.get("version")
        here = (*path, "version")
        if version == "2":
            return True
        if version == "1" or isinstance(value.get("config"), list):
            self._refuse(here, f"1 is not supported; write version 2, such as {_EXAMPLE}")
            return False
        if version is None:
            self._refuse(here, f"is missing; write version: 2, such as {_EXAMPLE}")
            # The rest is read as if it were there, so that all errors come at once.
            return True
        self._refuse(here, f"{shown(version)} is not 2")
        return False

    def _section(self, path: Path, section: str, entries: Value) -> list[Draft]:
        if entries is None:
            return []
        if not isinstance(entries, dict):
            self._refuse(path, f"needs a mapping of interfaces, found {kind(entries)}")
            return []
        drafts = []
        for name, entry in entries.items():
            here = (*path, name)
            if name == "renderer" and isinstance(entry, str):
                self._note(here, NOTED["renderer"])
                continue
            if not _ID.fullmatch(name):
                self._refuse(
                    here, f"{shown(name)} cannot be an id; a pattern belongs below match.name", True
                )
                continue
            if section != "ethernets" and (len(name) > _DEVICE_MAX or name in _KERNELS):
                self._refuse(here, f"{shown(name)} cannot be a new interface's name (at most "
                             f"{_DEVICE_MAX} letters)", True)  # fmt: skip
                continue
            if entry is None:
                entry = {}
            if not isinstance(entry, dict):
                self._refuse(here, f"needs a mapping, found {kind(entry)}")
                continue
            shape = validate(
                SHAPES[section], self._known(here, section, entry), self.document, here,
                self.problems,
            )  # fmt: skip
            if shape is None:
                self.broken.add(name)
            else:
                drafts.append(Draft(name, section, here, shape))
        return drafts

    def _known(self, path: Path, section: str, entry: Mapping[str, Value]) -> dict[str, Any]:
        """The entry without the keys that are passed over or refused by name."""
        own = {field.alias or name for name, field in SHAPES[section].model_fields.items()}
        known: dict[str, Any] = {}
        for key, value in entry.items():
            here = (*path, key)
            if key in own:
                known[key] = value
            elif key in NOTED:
                self._note(here, NOTED[key])
            elif key in REFUSED:
                self._refuse(here, REFUSED[key], True)
            else:
                known[key] = value
        if isinstance(known.get("addresses"), list):
            known["addresses"] = [
                self._address((*path, "addresses", number), value)
                for number, value in enumerate(known["addresses"])
            ]
        if isinstance(known.get("routes"), list):
            known["routes"] = [
                self._route((*path, "routes", number), value)
                for number, value in enumerate(known["routes"])
            ]
        if section == "bonds" and isinstance(known.get("parameters"), dict):
            known["parameters"] = self._parameters((*path, "parameters"), known["parameters"])
        return known

    def _address(self, path: Path, value: Value) -> Value:
        """``10.20.0.5/24: {label: ...}`` is an address with options, which are passed over."""
        if not isinstance(value, dict) or len(value) != 1:
            return value
        address = next(iter(value))
        self._note((*path, address), "options of an address are passed over")
        return address

    def _route(self, path: Path, value: Value) -> Value:
        if not isinstance(value, dict):
            return value
        for key in value.keys() & ROUTE_REFUSED.keys():
            self._refuse((*path, key), ROUTE_REFUSED[key], True)
        return {key: entry for key, entry in value.items() if key not in ROUTE_REFUSED}

    def _parameters(self, path: Path, value: Mapping[str, Value]) -> dict[str, Value]:
        known: dict[str, Value] = {}
        for key, entry in value.items():
            if key in BOND_NOTED:
                self._note((*path, key), "is passed over: the kernel's default counts")
            elif key == "mii-monitor-interval" and isinstance(entry, str):
                known[key] = entry.removesuffix("ms")
            else:
                known[key] = entry
        return known

    def _short(self, path: Path, value: Mapping[str, Value]) -> tuple[Interface, ...]:
        for key in value.keys() & SHORT_REFUSED.keys():
            self._refuse((*path, key), SHORT_REFUSED[key], True)
        for key, inner in value.items():
            if isinstance(inner, dict) and key not in SHORT_REFUSED:
                self._refuse((*path, key), f"belongs to version 2, such as {_EXAMPLE}", True)
        value = {
            key: inner
            for key, inner in value.items()
            if key not in SHORT_REFUSED and not isinstance(inner, dict)
        }
        shape = validate(ShortShape, value, self.document, path, self.problems)
        if shape is None:
            return ()
        servers, search = shape.dns or (), shape.search or ()
        if shape.address is None:
            if not (servers or search or shape.interface):
                return ()
            name = shape.interface or "e*"
            return (Interface(shape.interface or "all", name=name, dhcp4=True, nameservers=servers,
                              search=search),)  # fmt: skip
        name = shape.interface or FIRST_CARD
        routes: tuple[Route, ...] = ()
        if shape.gateway:
            from product.cloudinit.netplan_checks import is_on_link

            on_link = is_on_link(
                shape.gateway, (shape.address,), False, (*path, "gateway"), name,
                self._refuse, self._note,
            )  # fmt: skip
            routes = (Route("default", shape.gateway, on_link),)
        return (
            Interface(
                name, name=name, addresses=(str(shape.address),), routes=routes,
                nameservers=servers, search=search,
            ),
        )  # fmt: skip

    def _refuse(self, path: Path, message: str, at_key: bool = False) -> None:
        self.problems.append(self.document.problem(path, message, at_key=at_key))

    def _note(self, path: Path, message: str) -> None:
        self.notes.append(self.document.problem(path, message, at_key=True))
