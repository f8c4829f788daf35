"""The ``updates:`` block: the keys of update.conf, checked as the agent does."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BeforeValidator, model_validator

from product.agent.config import CHOICES, check_value
from product.agent.errors import ConfigError
from product.agent.window import parse_window
from product.cloudinit.checking import Model, between, shown
from product.cloudinit.errors import Faults
from product.cloudinit.hosts import require_text
from product.cloudinit.pem import public_keys


def _word(value: object) -> str:
    """One word that fits a line of update.conf."""
    text = require_text(value)
    if not text.isprintable() or any(letter.isspace() for letter in text):
        raise ValueError(f"{shown(text)} has a blank or a character that is not printable")
    if len(text) > 2048:
        raise ValueError(f"has {len(text)} letters; at most 2048 are read")
    return text


def _url(value: object) -> str:
    text = _word(value)
    try:
        parts = urlsplit(text)
        usable = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable or parts.scheme not in ("http", "https"):
        raise ValueError(f"{shown(text)} is not a URL, such as https://updates.example.org/")
    if parts.query or parts.fragment:
        raise ValueError(f"{shown(text)} has a query or fragment, which a base URL has not")
    return text


def _server(value: object) -> str:
    """A URL, or a volume of the node by its label: disk:LABEL/folder."""
    text = _word(value)
    return text if text.startswith("disk:") else _url(text)


def _health(value: object) -> str:
    text = _word(value)
    _url(text.partition("?")[0])
    return text


def _window(value: object) -> str:
    text = "".join(require_text(value).split())
    try:
        parse_window(text)
    except ConfigError as error:
        raise ValueError(f"{error.message}; {error.hint}") from None
    return text


def _pubkey(value: object) -> str:
    """The path of a PEM file on the node, or the PEM text itself."""
    text = require_text(value)
    if text.startswith("/") and "\n" not in text.strip():
        return _word(text)
    return public_keys(text)


def _restore(value: object) -> str:
    text = require_text(value)
    if text not in CHOICES["datastore_restore"]:
        allowed = ", ".join(CHOICES["datastore_restore"])
        raise ValueError(f"{shown(text)} is none of {allowed}")
    return text


Word = Annotated[str, BeforeValidator(_word)]
# How often a node looks for updates that was told of a server, and of no interval: minutes.
CHECK_MINUTES = 360
KEY_FILE = "/etc/kubesolo/update-key.pem"


class Updates(Model):
    """``None`` is what the block does not say; the agent's default then counts."""

    server: Annotated[str, BeforeValidator(_server)] | None = None
    registry: Word | None = None
    tag: Word | None = None
    channel: Word | None = None
    pubkey: Annotated[str, BeforeValidator(_pubkey)] | None = None
    maintenance_window: Annotated[str, BeforeValidator(_window)] | None = None
    healthcheck_url: Annotated[str, BeforeValidator(_health)] | None = None
    healthcheck_deadline: Annotated[int, between(1, 3600)] | None = None
    auto_rollback_after: Annotated[int, between(0, 1000)] | None = None
    kube_system_settle: Annotated[int, between(0, 3600)] | None = None
    datastore_restore: Annotated[str, BeforeValidator(_restore)] | None = None
    # Minutes; 0 is never. A year at most.
    check_interval: Annotated[int, between(0, 525_600)] | None = None

    @model_validator(mode="after")
    def _together(self) -> Updates:
        faults: list[tuple[tuple[str | int, ...], str]] = []
        if self.server and self.registry:
            faults.append((("registry",), "and server are both there; releases come from one"))
        if self.tag and not self.registry:
            faults.append((("tag",), "needs registry, too"))
        for key, value in self.model_dump(exclude_none=True).items():
            # What the agent would not use is said here, where it can be mended.
            reason = None if key == "pubkey" else check_value(key, str(value))
            if reason:
                faults.append(((key,), f"{shown(value)} is {reason}"))
        if faults:
            raise Faults(faults)
        return self

    @property
    def inline_key(self) -> str | None:
        """The PEM text of a key that the block itself holds."""
        return self.pubkey if self.pubkey and not self.pubkey.startswith("/") else None

    def lines(self) -> list[str]:
        """What update.conf says; nothing where the block is empty."""
        values = self.model_dump(exclude_none=True)
        if self.server:
            # Nobody logs in on a node that was configured from outside.
            values.setdefault("check_interval", CHECK_MINUTES)
        if self.inline_key:
            values["pubkey"] = KEY_FILE
        return [f"{key}={value}" for key, value in values.items()]
