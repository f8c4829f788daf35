"""The ``updates:`` block: the keys of update.conf, checked as the agent does."""

from __future__ import annotations

import posixpath
from typing import Annotated

from pydantic import BeforeValidator, model_validator

from product.agent.settings import NUMBER_KEYS, check_value
from product.cloudinit.checking import Model, between, shown
from product.cloudinit.errors import Faults
from product.cloudinit.hosts import require_text
from product.cloudinit.pem import public_keys

# How often a node looks for updates that was told of a server, and of no interval: minutes.
CHECK_MINUTES = 360
KEY_FILE = "/etc/kubesolo/update-key.pem"
_LONGEST = 2048


def _word(value: object) -> str:
    """One word that fits a line of update.conf."""
    text = require_text(value)
    if not text.isprintable() or any(letter.isspace() for letter in text):
        raise ValueError(f"{shown(text)} has a blank or a character that is not printable")
    if len(text) > _LONGEST:
        raise ValueError(f"has {len(text)} letters; at most {_LONGEST} are read")
    return text


def _as_agent(key: str) -> BeforeValidator:
    """What the agent would not use is said here, where it can be mended."""

    def check(value: object) -> str:
        text = _word(value)
        if reason := check_value(key, text):
            raise ValueError(f"{shown(text)} is {reason}")
        return text

    return BeforeValidator(check)


def _window(value: object) -> object:
    """Blanks around the dash are no part of it."""
    return "".join(value.split()) if isinstance(value, str) else value


def _pubkey(value: object) -> str:
    """The path of a PEM file on the node, or the PEM text itself."""
    text = require_text(value)
    if text.startswith("/") and "\n" not in text.strip():
        path = posixpath.normpath(_word(text))
        if path == KEY_FILE:
            raise ValueError(
                f"{KEY_FILE} is written by a key in this place alone: put the key here"
            )
        return path
    return public_keys(text)


class Updates(Model):
    """``None`` is what the block does not say; the agent's default then counts."""

    server: Annotated[str, _as_agent("server")] | None = None
    registry: Annotated[str, _as_agent("registry")] | None = None
    tag: Annotated[str, _as_agent("tag")] | None = None
    channel: Annotated[str, _as_agent("channel")] | None = None
    pubkey: Annotated[str, BeforeValidator(_pubkey)] | None = None
    maintenance_window: (
        Annotated[str, _as_agent("maintenance_window"), BeforeValidator(_window)] | None
    ) = None
    healthcheck_url: Annotated[str, _as_agent("healthcheck_url")] | None = None
    pod_servers: Annotated[str, _as_agent("pod_servers")] | None = None
    healthcheck_deadline: Annotated[int, between(*NUMBER_KEYS["healthcheck_deadline"])] | None = (
        None
    )
    auto_rollback_after: Annotated[int, between(*NUMBER_KEYS["auto_rollback_after"])] | None = None
    kube_system_settle: Annotated[int, between(*NUMBER_KEYS["kube_system_settle"])] | None = None
    datastore_restore: Annotated[str, _as_agent("datastore_restore")] | None = None
    check_interval: Annotated[int, between(*NUMBER_KEYS["check_interval"])] | None = None
    check_jitter: Annotated[int, between(*NUMBER_KEYS["check_jitter"])] | None = None
    hook_timeout: Annotated[int, between(*NUMBER_KEYS["hook_timeout"])] | None = None
    webhook_url: Annotated[str, _as_agent("webhook_url")] | None = None
    metrics_address: Annotated[str, _as_agent("metrics_address")] | None = None
    metrics_port: Annotated[int, between(*NUMBER_KEYS["metrics_port"])] | None = None

    @model_validator(mode="after")
    def _together(self) -> Updates:
        faults: list[tuple[tuple[str | int, ...], str]] = []
        if self.server and self.registry:
            faults.append((("registry",), "and server are both there; releases come from one"))
        if self.tag and not self.registry:
            faults.append((("tag",), "needs registry, too"))
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
