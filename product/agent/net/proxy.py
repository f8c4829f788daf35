"""Asking through a proxy: CONNECT for https, and what its refusals mean.

Codes of the errors: ``proxy-unreachable``, ``proxy-login-required``, ``proxy-refused``,
``proxy-failed`` (it cannot reach the server).
"""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING, Any

from product.agent.errors import AgentError

if TYPE_CHECKING:
    from product.agent.net.sockets import TimedSocket
    from product.agent.net.urls import Origin, Url

LOGIN_REQUIRED = 407
_HINT = "check the network, and proxy= in update.conf"


def open_tunnel(raw: TimedSocket | Any, origin: Origin, proxy: Url) -> None:
    """Ask ``proxy``, which ``raw`` leads to, for a connection to ``origin``.

    Raises AgentError, TransientError, OSError and HTTPException.
    """
    host = origin.host.partition("%")[0]
    place = f"[{host}]:{origin.port}" if ":" in host else f"{host}:{origin.port}"
    lines = [f"CONNECT {place} HTTP/1.1", f"Host: {place}", "User-Agent: kubesolo-update"]
    if proxy.login:
        lines.append(f"Proxy-Authorization: {proxy.login}")
    raw.sendall("\r\n".join([*lines, "", ""]).encode("ascii"))
    response = http.client.HTTPResponse(raw, method="CONNECT")
    try:
        response.begin()
        status = response.status
    finally:
        # What follows is the server's; nothing of it can have come, as TLS begins with the client.
        response.close()
    if not 200 <= status < 300:
        raise refusal(status, origin, proxy)


def refusal(status: int, origin: Origin, proxy: Url) -> AgentError:
    """The error for a proxy that answered ``status`` in place of the server."""
    from product.agent.net.connections import TransientError

    name, server = f"the proxy {proxy.origin.header}", origin.header
    if status == LOGIN_REQUIRED:
        what = "refuses its login" if proxy.login else "wants a login"
        return AgentError(
            f"{name} {what} (407)",
            code="proxy-login-required",
            hint="set proxy= in update.conf to http://USER:PASSWORD@HOST:PORT",
        )
    if status >= 500:
        return TransientError(
            f"{name} cannot reach {server} ({status})",
            code="proxy-failed",
            hint="try again later; else check server= in update.conf, and what the proxy resolves",
        )
    return AgentError(
        f"{name} refuses a connection to {server} ({status})",
        code="proxy-refused",
        hint="the proxy must allow this server; or name it in no_proxy= of update.conf",
    )


def unreachable(proxy: Url, reason: str) -> AgentError:
    """The error where the proxy itself does not answer."""
    from product.agent.net.connections import TransientError

    return TransientError(
        f"cannot reach the proxy {proxy.origin.header}: {reason}",
        code="proxy-unreachable",
        hint=_HINT,
    )
