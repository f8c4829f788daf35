"""A release repository on a web server: each of its files is a path below one URL."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from product.agent.errors import AgentError, hide_logins
from product.agent.net.urls import parse_url, without_login
from product.agent.sources.exchange import OverConnections, new_connections, open_url
from product.agent.sources.protocol import DEFAULT_POLICY, FetchPolicy

if TYPE_CHECKING:
    from product.agent.net.access import Access
    from product.agent.net.connections import Response
    from product.agent.net.sockets import Permit


class HttpSource(OverConnections):
    """The repository at ``server``, an http or https URL that may name a login."""

    setting = "server"

    def __init__(
        self,
        server: str,
        policy: FetchPolicy = DEFAULT_POLICY,
        *,
        permit: Permit | None = None,
        interrupt: Callable[[], None] | None = None,
        access: Access | None = None,
    ) -> None:
        """``permit``, ``interrupt`` and ``access``: see Connections. Raises AgentError
        ``no-server``."""
        self.address = _base(server)
        self._connections = new_connections(
            policy, server, permit=permit, interrupt=interrupt, access=access
        )

    def open(
        self,
        path: str,
        *,
        start: int = 0,
        end: int | None = None,
        fresh: bool = False,
        until: float | None = None,
    ) -> Response:
        """What the server answers, redirects followed."""
        headers = range_header(start, end)
        if fresh:
            headers |= {"Cache-Control": "no-cache", "Pragma": "no-cache"}
        return open_url(self._connections, f"{self.address}/{path}", headers, until=until)


def range_header(start: int, end: int | None) -> dict[str, str]:
    """The header Range for the bytes from ``start`` to ``end``; none for all of them."""
    if not start and end is None:
        return {}
    return {"Range": f"bytes={start}-{'' if end is None else end}"}


def _base(server: str) -> str:
    try:
        parse_url(server)
        usable = not any(mark in server for mark in "?#")
    except ValueError:
        usable = False
    if not usable:
        raise AgentError(
            f"{hide_logins(server)!r} is not the address of a release server",
            code="no-server",
            hint="it must look like https://releases.example.com/kubesolo",
        )
    return without_login(server).rstrip("/")
