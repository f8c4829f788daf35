"""The section `security` of user-data, and the lines of /etc/kubesolo/security.conf."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, model_validator

from product.cloudinit.checking import Flag, Model, one_of, shown
from product.cloudinit.errors import Faults
from product.cloudinit.hosts import require_text

# What `kubesolo-config boot-password` and grub-mkpasswd-pbkdf2 print.
PASSWORD_PREFIX = "grub.pbkdf2.sha512"
MIN_ITERATIONS = 10_000
MAX_SETTINGS = 100
_HASH = re.compile(
    re.escape(PASSWORD_PREFIX) + r"\.([1-9][0-9]{0,8})\.(?:[0-9A-Fa-f]{2})+\.[0-9A-Fa-f]{128}"
)
_MODULE = re.compile(r"[A-Za-z0-9_-]{1,55}")
_SYSCTL = re.compile(r"[a-z][a-z0-9_]*([./][A-Za-z0-9_@:-]+)+")


def _module(value: object) -> str:
    text = require_text(value)
    if not _MODULE.fullmatch(text):
        raise ValueError(f"{shown(text)} is no name of a kernel module; write it like 8021q")
    return text


def _sysctl(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError("needs a mapping such as vm.max_map_count: 262144")
    if len(value) > MAX_SETTINGS:
        raise ValueError(f"has {len(value)} settings; at most {MAX_SETTINGS} are taken")
    faults: list[tuple[tuple[str | int, ...], str]] = []
    for name, setting in value.items():
        if not _SYSCTL.fullmatch(str(name)):
            message = f"{shown(str(name))} is no kernel setting; write it like vm.swappiness"
            faults.append(((name,), message))
        elif not isinstance(setting, str) or not setting.strip() or not setting.isprintable():
            faults.append(((name,), f"needs a value on one line, found {shown(setting)}"))
    if faults:
        raise Faults(faults)
    return {str(name): setting.strip() for name, setting in value.items()}


def _password(value: object) -> str:
    """A hash as GRUB reads it: prefix, iterations, salt and hash, the last two hexadecimal."""
    text = require_text(value).strip()
    found = _HASH.fullmatch(text)
    if not found:
        raise ValueError(
            f"is no hash of a password ({PASSWORD_PREFIX}. ...); "
            "make one by: kubesolo-config boot-password"
        )
    if int(found[1]) < MIN_ITERATIONS:
        raise ValueError(f"has {found[1]} iterations; at least {MIN_ITERATIONS} are needed")
    return text


class Security(Model):
    """How hard the node is; what is None keeps the default of the image."""

    apparmor: Annotated[str, one_of("enforce", "complain", "off")] | None = None
    audit: Flag | None = None
    lockdown: Annotated[str, one_of("integrity", "none")] | None = None
    modules: Annotated[str, one_of("locked", "open")] | None = None
    allow_modules: tuple[Annotated[str, BeforeValidator(_module)], ...] | None = None
    sysctl: Annotated[dict[str, str], BeforeValidator(_sysctl)] | None = None
    boot_menu: Annotated[str, one_of("open", "password", "closed")] | None = None
    boot_password: Annotated[str, BeforeValidator(_password)] | None = None

    @model_validator(mode="after")
    def _together(self) -> Security:
        if self.boot_menu == "password" and self.boot_password is None:
            message = "is password, and there is no boot_password; nobody could open the menu"
            raise Faults([(("boot_menu",), message)])
        if self.boot_password is not None and self.boot_menu != "password":
            message = "is there, and boot_menu is not password: it would protect nothing"
            raise Faults([(("boot_password",), message)])
        return self

    def lines(self) -> list[str]:
        """KEY=VALUE, in the order of the keys."""
        lines = []
        for key in ("apparmor", "lockdown", "modules", "boot_menu", "boot_password"):
            if (value := getattr(self, key)) is not None:
                lines.append(f"{key}={value}")
        if self.audit is not None:
            lines.append(f"audit={'on' if self.audit else 'off'}")
        if self.allow_modules:
            lines.append(f"allow_modules={' '.join(dict.fromkeys(self.allow_modules))}")
        lines += [f"sysctl.{name}={value}" for name, value in (self.sysctl or {}).items()]
        return lines
