"""The ``updates:`` block: the keys of update.conf, checked as the agent does."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from typing import Annotated

from pydantic import BeforeValidator, model_validator

from product.agent.settings import NUMBER_KEYS, SECRET_KEYS, check_together, check_value
from product.cloudinit.checking import Model, between, flag, kind, shown
from product.cloudinit.errors import Faults
from product.cloudinit.hosts import require_text
from product.cloudinit.pem import belong_together, certificates, p256_key, private_key, public_keys

# How often a node looks for updates that was told of a source, and of no interval: minutes.
CHECK_MINUTES = 360
KEY_FILE = "/etc/kubesolo/update-key.pem"
# Where the text of a key of the block is written, and with which mode.
PEM_FILES = {
    "pubkey": (KEY_FILE, 0o644),
    "ca_certificates": ("/etc/kubesolo/update-ca.pem", 0o644),
    "client_certificate": ("/etc/kubesolo/update-client.pem", 0o644),
    "client_key": ("/etc/kubesolo/update-client.key", 0o600),
    "cosign_key": ("/etc/kubesolo/update-cosign.pub", 0o644),
}
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


def _secret(key: str) -> BeforeValidator:
    """What is checked as the agent does, and shown by no message."""

    def check(value: object) -> str:
        if not isinstance(value, str) or not value:
            raise ValueError(f"needs text, found {'nothing' if not value else kind(value)}")
        if reason := check_value(key, value):
            raise ValueError(f"is a value {reason}" if reason.startswith("w") else f"is {reason}")
        return value

    return BeforeValidator(check)


def _list(value: object) -> object:
    """Hosts as a list, or as text with commas."""
    if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
        return ",".join(value)
    return ",".join(value.replace(",", " ").split()) if isinstance(value, str) else value


def _yes_or_no(value: object) -> str:
    return "yes" if flag(value) else "no"


def _pem(key: str, read: Callable[[object], str]) -> BeforeValidator:
    """The path of a PEM file on the node, or the PEM text itself, as ``read`` takes it."""
    file, _ = PEM_FILES[key]

    def check(value: object) -> str:
        text = require_text(value)
        if text.startswith("/") and "\n" not in text.strip():
            path = posixpath.normpath(_word(text))
            if any(path == own for own, _ in PEM_FILES.values()):
                raise ValueError(
                    f"{path} is written by a key in this place alone: put the key here"
                    if path == file
                    else f"{path} is written by another key of this block"
                )
            return path
        return read(text)

    return BeforeValidator(check)


class Updates(Model):
    """``None`` is what the block does not say; the agent's default then counts."""

    server: Annotated[str, _as_agent("server")] | None = None
    registry: Annotated[str, _as_agent("registry")] | None = None
    tag: Annotated[str, _as_agent("tag")] | None = None
    channel: Annotated[str, _as_agent("channel")] | None = None
    pubkey: Annotated[str, _pem("pubkey", public_keys)] | None = None
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
    proxy: Annotated[str, _as_agent("proxy")] | None = None
    no_proxy: Annotated[str, _as_agent("no_proxy"), BeforeValidator(_list)] | None = None
    ca_certificates: Annotated[str, _pem("ca_certificates", certificates)] | None = None
    client_certificate: Annotated[str, _pem("client_certificate", certificates)] | None = None
    client_key: Annotated[str, _pem("client_key", private_key)] | None = None
    username: Annotated[str, _as_agent("username")] | None = None
    password: Annotated[str, _secret("password")] | None = None
    bearer_token: Annotated[str, _secret("bearer_token")] | None = None
    rate_limit: Annotated[str, _as_agent("rate_limit")] | None = None
    cosign_key: Annotated[str, _pem("cosign_key", p256_key)] | None = None
    require_cosign: Annotated[str, BeforeValidator(_yes_or_no)] | None = None
    usb_updates: Annotated[str, _as_agent("usb_updates")] | None = None
    metrics_address: Annotated[str, _as_agent("metrics_address")] | None = None
    metrics_port: Annotated[int, between(*NUMBER_KEYS["metrics_port"])] | None = None
    deltas: Annotated[str, BeforeValidator(_yes_or_no)] | None = None

    @model_validator(mode="after")
    def _together(self) -> Updates:
        faults: list[tuple[tuple[str | int, ...], str]] = []
        values = {key: getattr(self, key) for key in type(self).model_fields}
        faults += [((key,), reason) for key, reason in check_together(values)]
        certificate, key = self.inline("client_certificate"), self.inline("client_key")
        if certificate and key and not belong_together(certificate, key):
            faults.append((("client_key",), "is not the key of client_certificate"))
        if faults:
            raise Faults(faults)
        return self

    def inline(self, key: str) -> str | None:
        """The PEM text that the block itself holds in the place of a path."""
        text = getattr(self, key)
        return text if text and not text.startswith("/") else None

    @property
    def has_secret(self) -> bool:
        """Whether update.conf is for root alone, whatever its URLs are."""
        return any(getattr(self, key) for key in (*SECRET_KEYS, "webhook_url"))

    def lines(self) -> list[str]:
        """What update.conf says; nothing where the block is empty."""
        values = self.model_dump(exclude_none=True)
        if self.server or self.registry:
            # Nobody logs in on a node that was configured from outside.
            values.setdefault("check_interval", CHECK_MINUTES)
        for key, (file, _) in PEM_FILES.items():
            if self.inline(key):
                values[key] = file
        if self.password:
            # The agent takes the quotes away, and keeps blanks and quotes between them.
            values["password"] = f'"{self.password}"'
        return [f"{key}={value}" for key, value in values.items()]
