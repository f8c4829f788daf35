"""The SSH server of an image that has the extension ``ssh``, as the node's status shows it."""

from __future__ import annotations

import os
from typing import NamedTuple

from product.agent.system.files import read_bounded
from product.agent.system.paths import Paths

MAX_BYTES = 4096
MAX_KEYS = 256 * 1024


class SshServer(NamedTuple):
    """``state``: running, starting, off (nobody's keys are here), absent (not in the image)."""

    state: str
    host_key: str | None = None
    fingerprint: str | None = None
    problem: str | None = None


def read_server(paths: Paths) -> SshServer:
    """What services/ssh of the extension left; nothing is asked of the server itself."""
    keys = _has_keys(paths.authorized_keys)
    if not os.path.exists(paths.ssh):
        unused = (
            f"{paths.authorized_keys} names who may log in, and this image has no SSH server: "
            'build one with extensions = ["ssh"]'
        )
        return SshServer("absent", problem=unused if keys else None)
    if not keys:
        return SshServer("off")
    problem = _keys_problem(paths.authorized_keys)
    try:
        text = read_bounded(paths.ssh_host_key, MAX_BYTES).decode("ascii").strip()
        kind, data = text.split()[:2]
        return SshServer("running", f"{kind} {data}", fingerprint(data), problem)
    except (OSError, ValueError):
        return SshServer("starting", problem=problem)


def fingerprint(data: str) -> str:
    """``SHA256:...`` of a public key in base64, as OpenSSH prints it. Raises ValueError."""
    from binascii import a2b_base64, b2a_base64
    from hashlib import sha256

    digest = sha256(a2b_base64(data, strict_mode=True)).digest()
    return "SHA256:" + b2a_base64(digest, newline=False).decode().rstrip("=")


def _has_keys(path: str) -> bool:
    try:
        return os.path.getsize(path) > 0
    except OSError:
        return False


def _keys_problem(path: str) -> str | None:
    """Why the server finds no key in lines that look right; the service mends it when it starts."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_KEYS)
    except OSError:
        return None
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in data:
        return f"{path} is UTF-16 or binary, and lets nobody in: save it as UTF-8"
    if data.startswith(b"\xef\xbb\xbf") or b"\r" in data:
        return (
            f"{path} has a byte order mark or ends lines with CR, and its keys may let nobody in: "
            "save it without, or reboot"
        )
    return None
