"""The keys of user-data."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, InstanceOf, model_validator

from product.cloudinit.checking import Flag, Model, guess, one_of, shown
from product.cloudinit.errors import Faults
from product.cloudinit.hosts import HostName, host_and_port, require_text
from product.cloudinit.network import Network
from product.cloudinit.pem import certificates
from product.cloudinit.security import Security
from product.cloudinit.settings import Setting, read_settings
from product.cloudinit.ssh_keys import authorized_key
from product.cloudinit.updates import Updates
from product.cloudinit.write_files import WriteFile

MAX_MESSAGE = 4096
_SIZE = re.compile(r"([1-9][0-9]{0,11})([kMGT]?)")
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
# How the node's own lines on the console begin; people and programs look for them.
_OWN_LINE = re.compile(r"^[ \t]*kubesolo[a-z-]*:|kubesolo-[a-z]+:", re.MULTILINE)


def _zone(value: object) -> str:
    from product.cloudinit.timezones import ZONES, present_name

    text = require_text(value).strip()
    if text not in ZONES:
        if better := present_name(text):
            raise ValueError(f"{shown(text)} is no time zone of the image; write {better}")
        raise ValueError(f"{shown(text)} is no time zone of the image{guess(text, ZONES)}")
    return text


def _message(value: object) -> str:
    text = require_text(value)
    if len(text) > MAX_MESSAGE:
        raise ValueError(f"has {len(text)} letters; at most {MAX_MESSAGE} are shown")
    strange = next((letter for letter in text if not letter.isprintable() | (letter in "\n\t")), "")
    if strange:
        raise ValueError(f"has {strange!r}, which cannot be printed; lines and tabs may be in it")
    if found := _OWN_LINE.search(text):
        raise ValueError(
            f"{shown(found[0].strip())} looks like the node's own lines; begin otherwise"
        )
    return text


def _to_seed(value: object) -> str:
    if value != "to-seed":
        raise ValueError(f"needs to-seed, which writes it onto the seed; found {shown(value)}")
    return "to-seed"


def _no_defaults_removed(value: bool) -> bool:
    if value:
        raise ValueError("is refused: updates and registries need the image's authorities")
    return value


class Ntp(Model):
    """Time servers; each of ``pools`` counts as a server."""

    servers: tuple[Annotated[str, BeforeValidator(host_and_port)], ...] | None = None
    pools: tuple[Annotated[str, BeforeValidator(host_and_port)], ...] | None = None
    enabled: Flag | None = None

    @model_validator(mode="after")
    def _together(self) -> Ntp:
        if self.enabled is False and (self.servers or self.pools):
            raise Faults([(("enabled",), "is false, and there are servers; leave one of them out")])
        return self


_Pem = Annotated[str, BeforeValidator(certificates)]
_Removal = Annotated[Flag, AfterValidator(_no_defaults_removed)]


class CaCerts(Model):
    """Authorities beside those of the image."""

    trusted: tuple[_Pem, ...] | None = None
    remove_defaults: _Removal | None = None
    remove_defaults_hyphen: _Removal | None = Field(default=None, alias="remove-defaults")


def _disk_path(value: object) -> str:
    text = require_text(value)
    if not text.startswith("/dev/"):
        raise ValueError(f"{shown(text)} is no disk; write it like /dev/sda")
    if text.startswith("/dev/disk/"):
        raise ValueError(f"{shown(text)} is a link that only udev makes; give serial or wwn")
    return text


def _bytes(value: object) -> int:
    """A size as people write it: 16G, 500M; k is 1000."""
    text = require_text(value)
    found = _SIZE.fullmatch(text)
    if not found:
        raise ValueError(f"{shown(text)} is no size; write it like 16G or 500M")
    return int(found[1]) * _UNITS[found[2]]


class InstallDisk(Model):
    """Which disk: each key must fit; ``pick`` takes one of several that do."""

    serial: Annotated[str, BeforeValidator(require_text)] | None = None
    model: Annotated[str, BeforeValidator(require_text)] | None = None
    path: Annotated[str, BeforeValidator(_disk_path)] | None = None
    wwn: Annotated[str, BeforeValidator(require_text)] | None = None
    min_size: Annotated[int, BeforeValidator(_bytes)] | None = None
    pick: Annotated[str, one_of("smallest", "largest")] | None = None


class Install(Model):
    """What the installer of a medium does without a question; an installed node passes it over."""

    disk: InstallDisk | None = None
    wipe: Flag | None = None
    then: Annotated[str, one_of("reboot", "poweroff")] | None = None


def _clashes(entries: tuple[WriteFile, ...]) -> list[tuple[tuple[str | int, ...], str]]:
    """Files that are written twice, are the folder of another one, or where it is written first."""
    faults: list[tuple[tuple[str | int, ...], str]] = []
    paths: dict[str, int] = {}
    for number, entry in enumerate(entries):
        if entry.path in paths and not entry.append:
            message = f"{entry.path} is written by entry {paths[entry.path]}, too"
            faults.append((("write_files", number, "path"), message))
        paths.setdefault(entry.path, number)
    for path, number in paths.items():
        parent = next((p for p in _parents(path) if p in paths), None)
        if parent:
            message = f"{path}: {parent} is a file of entry {paths[parent]}, not a folder"
            faults.append((("write_files", number, "path"), message))
        for part in (*_parents(path), path):
            if part.endswith(".tmp") and (owner := part.removesuffix(".tmp")) in paths:
                message = f"{path}: {owner} of entry {paths[owner]} is written as {part}"
                faults.append((("write_files", number, "path"), message))
    return faults


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(2, len(parts))]


class CloudConfig(Model):
    """user-data; what is None was not said, and leaves what the node has."""

    hostname: HostName | None = None
    fqdn: HostName | None = None
    network: InstanceOf[Network] | None = None
    kubesolo: Annotated[dict[str, Setting], BeforeValidator(read_settings)] | None = None
    updates: Updates | None = None
    security: Security | None = None
    timezone: Annotated[str, BeforeValidator(_zone)] | None = None
    ntp: Ntp | None = None
    ca_certs: CaCerts | None = None
    ca_certs_hyphen: CaCerts | None = Field(default=None, alias="ca-certs")
    ssh_authorized_keys: tuple[Annotated[str, BeforeValidator(authorized_key)], ...] | None = None
    write_files: tuple[WriteFile, ...] | None = None
    final_message: Annotated[str, BeforeValidator(_message)] | None = None
    kubeconfig: Annotated[str, BeforeValidator(_to_seed)] | None = None
    install: Install | None = None

    @model_validator(mode="after")
    def _together(self) -> CloudConfig:
        faults: list[tuple[tuple[str | int, ...], str]] = []
        if self.ca_certs is not None and self.ca_certs_hyphen is not None:
            faults.append((("ca-certs",), "is the same as ca_certs, which is there, too"))
        faults += _clashes(self.write_files or ())
        if faults:
            raise Faults(faults)
        return self

    @property
    def host(self) -> str | None:
        """The node's host name: the first label of hostname, or else of fqdn."""
        name = self.hostname or self.fqdn
        return name.split(".")[0] if name else None

    @property
    def authorities(self) -> str:
        """All certificates of ca_certs, as PEM."""
        block = self.ca_certs or self.ca_certs_hyphen
        return "".join(block.trusted or ()) if block else ""
