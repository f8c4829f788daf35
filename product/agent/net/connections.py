"""The agent's HTTP client: GET and POST over connections that are used again, in limited time.

urllib3 would do the same, at half a CPU second of imports on an emulated node. Knows nothing of
redirects or of what an answer should be. One deadline counts for all of an exchange: the name, the
connection, TLS, the request, every interim answer and header, and the body unless it is given time
of its own. A login goes to the origin that it was named for and to no other, and into no error.
"""

from __future__ import annotations

import http.client
from collections.abc import Callable
from time import monotonic, sleep
from types import TracebackType
from typing import TYPE_CHECKING

from product.agent.errors import AgentError
from product.agent.net.sockets import SLICE, Patience, Permit, dial
from product.agent.net.urls import Origin, parse_url, without_login

if TYPE_CHECKING:
    import ssl

    from product.agent.net.sockets import TimedSocket

# Seconds for an exchange of which nobody says how long it may take.
EXCHANGE_SECONDS = 60.0


class TransientError(AgentError):
    """Another try may succeed; ``retry_after`` is how many seconds the server asked to wait."""

    code = "server-unreachable"

    def __init__(
        self, message: str, *, hint: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class Response:
    """An answer with its body unread; the caller closes it."""

    def __init__(self, url: str, raw: http.client.HTTPResponse, connection: Connection) -> None:
        self._url = url
        self._raw = raw
        self._connection = connection
        # Bytes that are announced and not read yet; None where their number was not announced.
        self._left = raw.length
        self.status = raw.status

    def header(self, name: str) -> str | None:
        """The first header of that name, in any case."""
        return self._raw.headers.get(name)

    def allow(self, seconds: float) -> None:
        """Give what is read next ``seconds`` from now, in place of what the exchange had left."""
        self._connection.patience.allow(seconds)

    def read1(self, limit: int) -> bytes:
        """What has come of the body, at most ``limit`` bytes; empty at its end.

        Raises TransientError where the connection breaks off before that, or time is up.
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


class Connection(http.client.HTTPConnection):
    """A connection to ``origin`` that obeys ``patience``; ``context`` gives that of TLS."""

    def __init__(
        self,
        origin: Origin,
        patience: Patience,
        *,
        connect: float,
        context: Callable[[], ssl.SSLContext],
        permit: Permit | None = None,
    ) -> None:
        # The port is always said: http.client would take the end of an IPv6 address for one.
        super().__init__(origin.host, origin.port)
        self.origin = origin
        self.patience = patience
        self._connect = connect
        self._context = context
        self._permit = permit

    def connect(self) -> None:
        """Open it. Raises OSError, ValueError, and what the permit raises."""
        self.sock = self._dial()

    def _dial(self) -> TimedSocket | ssl.SSLSocket:
        raw = dial(
            self.host, self.port, self.patience, connect=self._connect, permit=self._permit
        )  # fmt: skip
        if self.origin.scheme == "http":
            return raw
        try:
            from product.agent.net.tls import secure

            return secure(raw, self._context(), self.host)
        except BaseException:
            raw.close()
            raise

    def ask(
        self, target: str, headers: dict[str, str], body: bytes | None = None
    ) -> http.client.HTTPResponse:
        """The answer to a GET, or to a POST of ``body``, its own body unread.

        Raises OSError, HTTPException, ValueError.
        """
        used = self.sock is not None
        try:
            return self.ask_once(target, headers, body)
        except ConnectionError:
            if not used:
                raise
            # The server closed it since, as servers do with idle ones.
            return self.ask_once(target, headers, body)

    def ask_once(
        self, target: str, headers: dict[str, str], body: bytes | None = None
    ) -> http.client.HTTPResponse:
        """The same by the connection that there is, if there is one."""
        headers = {"Host": self.origin.header} | headers
        try:
            self.request("GET" if body is None else "POST", target, body, headers)
            return self.getresponse()
        except BaseException:
            self.close()
            raise


class Connections:
    """One connection to each server, opened when it is asked; use as a context manager.

    ``connect`` and ``silence`` are the seconds that opening one and waiting for bytes may take.
    ``permit`` judges every address before it is connected to; ``interrupt`` is called while
    something is waited for, and raises what ends it.
    """

    def __init__(
        self,
        *,
        connect: float,
        silence: float,
        permit: Permit | None = None,
        interrupt: Callable[[], None] | None = None,
    ) -> None:
        self._connect = connect
        self._silence = silence
        self._permit = permit
        self._interrupt = interrupt
        self._open: dict[Origin, Connection] = {}
        self._logins: dict[Origin, str] = {}
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

    def pause(self, seconds: float) -> None:
        """Wait; raises what interrupts."""
        pause(seconds, self._interrupt)

    def learn_login(self, url: str) -> None:
        """Send the login that ``url`` names, if it names one, to its origin from now on."""
        parsed = parse_url(url)
        if parsed.login:
            self._logins[parsed.origin] = parsed.login

    def get(self, url: str, headers: dict[str, str], until: float | None = None) -> Response:
        """Ask for ``url``, whatever the answer, until a moment on the monotonic clock.

        Raises TransientError; ValueError for no URL.
        """
        return self._exchange(url, headers, None, until)

    def post(self, url: str, headers: dict[str, str], body: bytes, until: float) -> Response:
        """The same for a POST of ``body``."""
        return self._exchange(url, headers, body, until)

    def _exchange(
        self, url: str, headers: dict[str, str], body: bytes | None, until: float | None
    ) -> Response:
        origin, target, login = parse_url(url)
        if login := login or self._logins.get(origin):
            headers = headers | {"Authorization": login}
        seconds = EXCHANGE_SECONDS if until is None else max(until - monotonic(), 0.0)
        url = without_login(url)
        try:
            connection = self._open.get(origin)
            if connection is None:
                connection = self._open[origin] = self._new(origin)
            connection.patience.allow(seconds)
            raw = connection.ask(target, headers, body)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise TransientError(
                f"cannot reach {url}: {_reason(error)}",
                hint="check the network, and server= in update.conf",
            ) from None
        return Response(url, raw, connection)

    def _new(self, origin: Origin) -> Connection:
        return Connection(
            origin,
            Patience(self._silence, self._interrupt),
            connect=self._connect,
            context=self._context,
            permit=self._permit,
        )

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            import ssl

            self._tls = ssl.create_default_context()
        return self._tls


def pause(seconds: float, interrupt: Callable[[], None] | None) -> None:
    """Wait, calling ``interrupt`` meanwhile, which raises what ends it."""
    end = monotonic() + seconds
    while (left := end - monotonic()) > 0:
        if interrupt is not None:
            interrupt()
        sleep(min(left, SLICE))


def _reason(error: Exception) -> str:
    """What went wrong, in the system's words."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
