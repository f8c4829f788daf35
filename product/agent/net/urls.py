"""What an http or https URL names: an origin, a path on it, and perhaps a login."""

from __future__ import annotations

from binascii import b2a_base64
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

PORTS = {"http": 80, "https": 443}
# What a URL's path and query may hold besides letters and digits; anything else is escaped.
_SAFE = "/%:=&?~+!$,;'@()*[]"


class Origin(NamedTuple):
    """``host`` is a name or an address without brackets, an IPv6 one perhaps with its zone."""

    scheme: str
    host: str
    port: int

    @property
    def header(self) -> str:
        """The value of the header Host: a zone means nothing to the other end."""
        host = self.host.partition("%")[0]
        host = f"[{host}]" if ":" in host else host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"


class Url(NamedTuple):
    """``target`` is what a request line asks for; ``login`` the value of the header Authorization
    that the URL's user and password make, None without them."""

    origin: Origin
    target: str
    login: str | None


def parse_url(url: str) -> Url:
    """Raises ValueError where ``url`` is no usable http or https URL."""
    parts = urlsplit(url)
    host = unquote(parts.hostname or "")
    if not host.isascii():
        host = host.encode("idna").decode()
    port = PORTS.get(parts.scheme) if parts.port is None else parts.port
    if not port or not host or parts.scheme not in PORTS:
        raise ValueError(f"{without_login(url)!r} is no HTTP URL")
    target = quote(parts.path or "/", _SAFE)
    if parts.query:
        target += f"?{quote(parts.query, _SAFE)}"
    return Url(Origin(parts.scheme, host, port), target, _login(parts.netloc))


def _login(netloc: str) -> str | None:
    given, at, _ = netloc.rpartition("@")
    if not at or not given:
        return None
    user, _, password = given.partition(":")
    plain = f"{unquote(user)}:{unquote(password)}".encode()
    return f"Basic {b2a_base64(plain, newline=False).decode()}"


def without_login(url: str) -> str:
    """``url`` without the user and the password that it may name."""
    scheme, separator, rest = url.partition("://")
    end = min((rest.find(mark) for mark in "/?#" if mark in rest), default=len(rest))
    return f"{scheme}{separator}{rest[:end].rpartition('@')[2]}{rest[end:]}" if separator else url
