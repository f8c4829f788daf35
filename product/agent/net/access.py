"""How the node reaches its source: a proxy, authorities of its own, and what proves who it is.

A login and a client certificate are for one origin, ``home``: no redirect, and no server that
a flag or a pod names in its place, gets them. What is on this machine or its link is never reached
through the proxy.

Codes of the errors: ``insecure-login``.
"""

from __future__ import annotations

from binascii import b2a_base64
from typing import TYPE_CHECKING, NamedTuple

from product.agent.errors import AgentError
from product.agent.net.urls import Origin, Url, parse_url

if TYPE_CHECKING:
    from product.agent.config import Config


class Access(NamedTuple):
    """``proxy`` with its login, if it wants one; ``direct`` are hosts, domains and networks that
    are reached without it. ``authorities``, ``certificate`` and ``key`` are paths of PEM files;
    ``login`` is the value of the header Authorization."""

    proxy: Url | None = None
    direct: tuple[str, ...] = ()
    authorities: str | None = None
    certificate: str | None = None
    key: str | None = None
    login: str | None = None
    home: Origin | None = None

    def proxy_for(self, origin: Origin) -> Url | None:
        """The proxy that ``origin`` is asked through; None where it is asked directly."""
        if self.proxy is None or _is_near(origin.host) or self._is_direct(origin.host):
            return None
        return self.proxy

    def login_for(self, origin: Origin) -> str | None:
        """What ``origin`` is told about who asks."""
        return self.login if origin == self.home else None

    def _is_direct(self, host: str) -> bool:
        host = host.lower().rstrip(".")
        for entry in self.direct:
            name = entry.lower().strip("[]").removeprefix("*").strip(".")
            if not name or host == name or host.endswith(f".{name}") or _holds(name, host):
                return True
        return False


def access_for(config: Config, address: str | None = None) -> Access | None:
    """How ``config`` says that its source is reached; None where it says nothing of it.

    ``address`` is the source's URL where ``server`` does not say it. Raises AgentError for a token
    that everybody on the way could read.
    """
    address = address or config.server or ""
    said = (config.proxy, config.ca_certificates, config.client_certificate, config.username)
    if not any((*said, config.bearer_token)):
        return None
    home = None
    if address.lower().startswith(("http://", "https://")):
        home = parse_url(address).origin
    if config.bearer_token and home and home.scheme == "http" and not _is_near(home.host):
        raise AgentError(
            f"the bearer token is not sent to {home.host} over http, where everybody could read it",
            code="insecure-login",
            hint="set an https:// address in update.conf, or take bearer_token= out",
        )
    return Access(
        # Only the proxy itself would know where a name leads that a pod gave (net/guard.py).
        parse_url(config.proxy) if config.proxy and not config.server_from_pod else None,
        tuple(config.no_proxy.replace(",", " ").split()),
        config.ca_certificates,
        config.client_certificate,
        config.client_key,
        _login(config),
        home,
    )


def _login(config: Config) -> str | None:
    if config.bearer_token:
        return f"Bearer {config.bearer_token}"
    if not config.username:
        return None
    plain = f"{config.username}:{config.password or ''}".encode()
    return f"Basic {b2a_base64(plain, newline=False).decode()}"


def _is_near(host: str) -> bool:
    """Whether it is this machine, or an address of its link."""
    host = host.lower().partition("%")[0].rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    if not _may_be_address(host):
        return False
    from ipaddress import ip_address

    try:
        found = ip_address(host)
    except ValueError:
        return False
    found = getattr(found, "ipv4_mapped", None) or found
    return found.is_loopback or found.is_link_local


def _holds(network: str, host: str) -> bool:
    """Whether ``host`` is an address of ``network``."""
    host = host.partition("%")[0]
    if not (_may_be_address(host) and _may_be_address(network.partition("/")[0])):
        return False
    from ipaddress import ip_address, ip_network

    try:
        return ip_address(host) in ip_network(network, strict=False)
    except ValueError:
        return False


def _may_be_address(host: str) -> bool:
    """Spares the import for names."""
    return ":" in host or (host[-1:].isdigit() and host.replace(".", "").isdigit())
