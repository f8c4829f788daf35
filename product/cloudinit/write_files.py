"""The ``write_files:`` list: files below /etc/kubesolo and /var/lib/kubesolo."""

from __future__ import annotations

import base64
import binascii
import posixpath
import re
import zlib
from typing import Annotated

from pydantic import BeforeValidator, model_validator

from product.cloudinit.checking import Flag, Model, shown
from product.cloudinit.errors import Faults
from product.cloudinit.hosts import require_text

MAX_FILE = 1024 * 1024
ROOTS = ("/etc/kubesolo", "/var/lib/kubesolo")
# Files that other keys of user-data write, by the key; they are written as FILE.tmp first.
OWNED = {
    "/etc/kubesolo/hostname": "hostname",
    "/etc/kubesolo/network.json": "network",
    "/etc/kubesolo/kubernetes.json": "kubesolo",
    "/etc/kubesolo/update.conf": "updates",
    "/etc/kubesolo/update-key.pem": "updates.pubkey",
    "/etc/kubesolo/update-ca.pem": "updates.ca_certificates",
    "/etc/kubesolo/update-client.pem": "updates.client_certificate",
    "/etc/kubesolo/update-client.key": "updates.client_key",
    "/etc/kubesolo/update-cosign.pub": "updates.cosign_key",
    "/etc/kubesolo/security.conf": "security",
    "/etc/kubesolo/timezone": "timezone",
    "/etc/kubesolo/ntp": "ntp",
    "/etc/kubesolo/ca-certificates.crt": "ca_certs",
    "/etc/kubesolo/authorized_keys": "ssh_authorized_keys",
    "/etc/kubesolo/final_message": "final_message",
}
# What the system itself keeps below /var/lib/kubesolo.
KEPT = (
    "chrony", "cni", "config", "containerd", "dhcp", "kine", "kubelet", "kubernetes", "log",
    "migrations", "network", "opt", "opt-cni", "pki", "requests", "ssh", "time", "update",
    "webhook",
)  # fmt: skip
# What people write elsewhere, and the key that does it here.
_KEYS = {
    "/etc/netplan/": "network",
    "/etc/network/": "network",
    "/etc/systemd/network/": "network",
    "/etc/resolv.conf": "network",
    "/etc/hostname": "hostname",
    "/etc/localtime": "timezone",
    "/etc/timezone": "timezone",
    "/etc/chrony": "ntp",
    "/etc/ntp": "ntp",
    "/etc/systemd/timesyncd": "ntp",
    "/etc/ssl/": "ca_certs",
    "/usr/local/share/ca-certificates/": "ca_certs",
    "/root/.ssh/": "ssh_authorized_keys",
    "/etc/motd": "final_message",
    "/etc/rancher/": "kubesolo",
}
_ENCODINGS = {
    "b64": "b64", "base64": "b64",
    "gz+b64": "gz+b64", "gz+base64": "gz+b64", "gzip+b64": "gz+b64", "gzip+base64": "gz+b64",
    "text/plain": "", "gz": "gz", "gzip": "gz",
}  # fmt: skip


def _path(value: object) -> str:
    text = require_text(value)
    if not text.startswith("/") or not text.isprintable():
        raise ValueError(f"{shown(text)} is not an absolute path")
    if text.endswith("/"):
        raise ValueError(f"{shown(text)} is a folder, not a file")
    # Two slashes at the beginning are kept by normpath, as POSIX wants it.
    path = posixpath.normpath("/" + text.lstrip("/"))
    root = next((root for root in ROOTS if path.startswith(f"{root}/")), None)
    if root is None:
        key = next((key for start, key in _KEYS.items() if path.startswith(start)), None)
        better = f"; use `{key}`" if key else ""
        raise ValueError(
            f"{shown(text)} lies not below {' or '.join(ROOTS)}: nothing else is kept{better}"
        )
    if max(len(part.encode()) for part in path.split("/")) > 255 or len(path) > 1024:
        raise ValueError(f"{shown(text)} is too long")
    below = path.removeprefix(f"{root}/").split("/")
    if root == ROOTS[1] and below[0] in KEPT:
        raise ValueError(f"{shown(text)}: the system keeps {root}/{below[0]} itself")
    owner = next(
        (
            key
            for owned, key in OWNED.items()
            if f"{path}/".startswith((f"{owned}/", f"{owned}.tmp/"))
        ),
        None,
    )
    if owner:
        raise ValueError(f"{shown(text)} is what `{owner}` writes; use that key")
    return path


def _permissions(value: object) -> int:
    text = require_text(value)
    digits = text.removeprefix("0o")
    if not re.fullmatch(r"0?[0-7]{3}", digits):
        raise ValueError(f"{shown(text)} is not a mode, such as '0644' (octal, at most 0777)")
    return int(digits, 8)


def _encoding(value: object) -> str:
    text = require_text(value)
    found = _ENCODINGS.get(text.lower())
    if found is None:
        raise ValueError(f"{shown(text)} is none of b64, gz+b64, text/plain")
    if found == "gz":
        raise ValueError("gz alone cannot be written in YAML text; use gz+b64")
    return found


def _owner(value: object) -> str:
    text = require_text(value)
    if text not in ("root", "root:root", "0:0"):
        raise ValueError(f"{shown(text)}: all files belong to root:root; the node has no users")
    return text


def _content(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"needs text, found {shown(value)}; write it after '|', indented")
    return value


def _source(value: object) -> None:
    if value is not None:
        raise ValueError("files are not fetched; put their text into content")


class WriteFile(Model):
    """One file; ``permissions`` is a mode, ``encoding`` one of b64, gz+b64 and nothing."""

    path: Annotated[str, BeforeValidator(_path)]
    content: Annotated[str, BeforeValidator(_content)] = ""
    permissions: Annotated[int, BeforeValidator(_permissions)] = 0o644
    encoding: Annotated[str, BeforeValidator(_encoding)] = ""
    append: Flag = False
    owner: Annotated[str, BeforeValidator(_owner)] = "root:root"
    defer: Flag = False
    source: Annotated[None, BeforeValidator(_source)] = None

    @model_validator(mode="after")
    def _decodable(self) -> WriteFile:
        try:
            self.data()
        except ValueError as error:
            raise Faults([(("content",), str(error))]) from None
        return self

    def data(self) -> bytes:
        """The decoded content. Raises ValueError."""
        data = self.content.encode()
        if self.encoding:
            try:
                data = base64.b64decode("".join(self.content.split()), validate=True)
            except (binascii.Error, ValueError):
                raise ValueError(f"is not base64, which encoding {self.encoding} says") from None
        if self.encoding == "gz+b64":
            data = _inflate(data)
        if len(data) > MAX_FILE:
            raise ValueError(f"has {len(data)} bytes; a file may have {MAX_FILE}")
        return data


def _inflate(data: bytes) -> bytes:
    """gzip, no further than one byte beyond what is allowed. Raises ValueError."""
    inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        found = inflater.decompress(data, MAX_FILE + 1)
    except zlib.error:
        raise ValueError("is not gzip below the base64, which encoding gz+b64 says") from None
    if len(found) <= MAX_FILE and not inflater.eof:
        raise ValueError("is gzip that is cut off; encode the whole file")
    return found
