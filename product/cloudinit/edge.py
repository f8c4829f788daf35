"""Portainer's Edge key: base64 of ``url|tunnel_addr|fingerprint|endpoint_id``.

It is a credential: no message shows it, nor any part of it.
"""

from __future__ import annotations

import base64
import binascii
from urllib.parse import urlsplit

MAX_LENGTH = 8192


def edge_key(value: object) -> str:
    """The key without its padding, as Portainer hands it out. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError("needs the Edge key as text")
    text = "".join(value.split()).rstrip("=")
    if not text:
        raise ValueError("is empty; copy the key from Portainer's page of the environment")
    if len(text) > MAX_LENGTH:
        raise ValueError(f"has {len(text)} letters, more than any Edge key")
    standard = text.replace("-", "+").replace("_", "/")
    try:
        decoded = base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise ValueError("is not base64; copy the whole key from Portainer") from None
    parts = decoded.split("|")
    if len(parts) != 4:
        raise ValueError(
            f"has {len(parts)} parts, not the 4 of url|tunnel_addr|fingerprint|endpoint_id; "
            "copy the whole key from Portainer"
        )
    url, tunnel, fingerprint, endpoint = parts
    try:
        server = urlsplit(url)
        host = server.hostname
    except ValueError:
        host = None
    if not host or server.scheme not in ("http", "https"):
        raise ValueError("begins with no URL of a Portainer server (http or https)")
    if not tunnel or not fingerprint:
        raise ValueError("has no address or fingerprint of the tunnel server")
    if not (endpoint.isascii() and endpoint.isdigit()):
        raise ValueError("ends with no number of an environment")
    return text
