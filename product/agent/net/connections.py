"""HTTP GET over connections that are used again: http.client with time limits and named errors.

urllib3 would do the same, at half a CPU second of imports on an emulated node. Knows nothing of
redirects or of what an answer should be.
"""

from __future__ import annotations

import http.client
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, urlsplit

from product.agent.errors import AgentError

if TYPE_CHECKING:
    import socket
    import ssl

# What a URL's path and query may hold besides letters and digits; anything else is escaped.
_SAFE = "/%:=&?~+!$,;'@()*[]"


class TransientError(AgentError):
    """Another try may succeed."""

    code = "server-unreachable"


class _Origin(NamedTuple):
    scheme: str
    host: str
    port: int | None


class Response:
    """An answer with its body unread; the caller closes it."""

    def __init__(
        self, url: str, raw: http.client.HTTPResponse, connection: http.client.HTTPConnection
    ) -> None:
        self._url = url
        self._raw = raw
        self._connection = connection
        # Bytes that are announced and not read yet; None where their number was not announced.
        self._left = raw.length
        self.status = raw.status

    def header(self, name: str) -> str | None:
        """The first header of that name, in any case."""
        return self._raw.headers.get(name)

    def read1(self, limit: int) -> bytes:
        """What has come of the body, at most ``limit`` bytes; empty at its end.

        Raises TransientError where the connection breaks off before that.
        """
        if self._left is not None:
            limit = min(limit, self._left)
            if not limit:
                return b""
        try:
            data = self._raw.read1(limit)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise TransientError(f"{self._url} broke off: {_reason(error)}") from None
        if self._left is not None:
            if not data:
                raise TransientError(f"{self._url} broke off {self._left} bytes before its end")
            self._left -= len(data)
        return data

    def close(self) -> None:
        """Keep the connection where the body was read to its end, else drop it."""
        if self._left != 0 and not self._raw.isclosed():
            # Never drained: what is left may be endless.
            self._connection.close()
        self._raw.close()


class Connections:
    """One connection to each server, opened when it is asked; use as a context manager.

    ``connect`` and ``silence`` are the seconds that opening one and waiting for bytes may take.
    """

    def __init__(self, *, connect: float, silence: float) -> None:
        self._connect = connect
        self._silence = silence
        self._open: dict[_Origin, http.client.HTTPConnection] = {}
        self._tls: ssl.SSLContext | None = None

    def __enter__(self) -> Connections:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for connection in self._open.values():
            connection.close()

    def get(self, url: str, headers: dict[str, str]) -> Response:
        """Ask for ``url``, whatever the answer. Raises TransientError; ValueError for no URL."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is no HTTP URL")
        origin = _Origin(parts.scheme, parts.hostname, parts.port)
        target = quote(parts.path or "/", _SAFE)
        if parts.query:
            target += f"?{quote(parts.query, _SAFE)}"
        connection = self._open.get(origin)
        used = connection is not None and connection.sock is not None
        if connection is None:
            try:
                connection = self._open[origin] = self._new(origin)
            except http.client.HTTPException as error:
                # A host with a blank in it, as a captive portal may redirect to.
                raise TransientError(
                    f"cannot reach {url}: {error}", hint="check server= in update.conf"
                ) from None
        try:
            try:
                raw = self._ask(connection, target, headers)
            except ConnectionError:
                if not used:
                    raise
                # The server closed it since, as servers do with idle ones.
                connection.close()
                raw = self._ask(connection, target, headers)
        except (OSError, http.client.HTTPException, ValueError) as error:
            connection.close()
            raise TransientError(
                f"cannot reach {url}: {_reason(error)}",
                hint="check the network, and server= in update.conf",
            ) from None
        return Response(url, raw, connection)

    def _ask(
        self, connection: http.client.HTTPConnection, target: str, headers: dict[str, str]
    ) -> http.client.HTTPResponse:
        if connection.sock is None:
            connection.connect()
            opened: socket.socket | None = connection.sock
            assert opened is not None
            opened.settimeout(self._silence)
        connection.request("GET", target, headers=headers)
        return connection.getresponse()

    def _new(self, origin: _Origin) -> http.client.HTTPConnection:
        if origin.scheme == "http":
            return http.client.HTTPConnection(origin.host, origin.port, timeout=self._connect)
        if self._tls is None:
            import ssl

            self._tls = ssl.create_default_context()
        return http.client.HTTPSConnection(
            origin.host, origin.port, timeout=self._connect, context=self._tls
        )


def _reason(error: Exception) -> str:
    """What went wrong, in the system's words."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
