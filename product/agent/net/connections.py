"""The agent's HTTP client: GET and POST over connections that are used again, in limited time.

urllib3 would do the same, at half a CPU second of imports on an emulated node. Knows nothing of
redirects or of what an answer should be. One deadline counts for all of an exchange: the name, the
connection, TLS, the request, every interim answer and header, and the body unless it is given time
of its own. A login goes to the origin that it was named for and to no other, and into no error.

Codes of the errors: ``server-unreachable``, and those of net/proxy.py and net/tls.py.
"""

from __future__ import annotations

import http.client
from collections.abc import Callable
from time import monotonic, sleep
from types import TracebackType
from typing import TYPE_CHECKING

from product.agent.errors import AgentError
from product.agent.net.sockets import SLICE, Patience, Permit, TimedSocket, dial
from product.agent.net.urls import Origin, parse_url, without_login

if TYPE_CHECKING:
    import ssl

    from product.agent.net.access import Access
    from product.agent.net.tunnel import TunnelledTls
    from product.agent.net.urls import Url

# Seconds for an exchange of which nobody says how long it may take.
EXCHANGE_SECONDS = 60.0


class TransientError(AgentError):
    """Another try may succeed; ``retry_after`` is how many seconds the server asked to wait."""

    code = "server-unreachable"

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, hint=hint, code=code)
        self.retry_after = retry_after


class Response:
    """An answer with its body unread; the caller closes it."""

    def __init__(
        self,
        url: str,
        raw: http.client.HTTPResponse,
        connection: Connection,
        *,
        logged_in: bool = False,
    ) -> None:
        self._url = url
        self._raw = raw
        self._connection = connection
        # Bytes that are announced and not read yet; None where their number was not announced.
        self._left = raw.length
        self.status = raw.status
        # Whether the request had a login.
        self.logged_in = logged_in

    def header(self, name: str) -> str | None:
        """The first header of that name, in any case."""
        return self._raw.headers.get(name)

    def headers(self, name: str) -> list[str]:
        """All headers of that name, in any case."""
        return self._raw.headers.get_all(name) or []

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
    """A connection to ``origin``, perhaps through ``proxy``, that obeys ``patience``.

    ``context`` gives that of TLS, first for the server, then for the proxy.
    """

    def __init__(
        self,
        origin: Origin,
        patience: Patience,
        *,
        connect: float,
        context: Callable[[Origin], ssl.SSLContext],
        permit: Permit | None = None,
        proxy: Url | None = None,
    ) -> None:
        # The port is always said: http.client would take the end of an IPv6 address for one.
        super().__init__(origin.host, origin.port)
        self.origin = origin
        self.patience = patience
        self._connect = connect
        self._context = context
        self._permit = permit
        self.proxy = proxy

    def connect(self) -> None:
        """Open it. Raises OSError, ValueError, and what the permit raises."""
        self.sock = self._dial()

    def _dial(self) -> TimedSocket | ssl.SSLSocket | TunnelledTls:
        if self.proxy is None:
            raw: TimedSocket | ssl.SSLSocket = dial(
                self.host, self.port, self.patience, connect=self._connect, permit=self._permit
            )
        else:
            raw = self._dial_proxy(self.proxy)
        if self.origin.scheme == "http":
            return raw
        try:
            if self.proxy is not None:
                from product.agent.net.proxy import open_tunnel

                open_tunnel(raw, self.origin, self.proxy)
            return self._secured(raw, self.origin)
        except BaseException:
            raw.close()
            raise

    def _dial_proxy(self, proxy: Url) -> TimedSocket | ssl.SSLSocket:
        from product.agent.net.proxy import unreachable

        try:
            raw = dial(
                proxy.origin.host, proxy.origin.port, self.patience, connect=self._connect
            )  # fmt: skip
        except (OSError, ValueError) as error:
            raise unreachable(proxy, _reason(error)) from None
        if proxy.origin.scheme == "http":
            return raw
        try:
            from product.agent.net.tls import explain, secure

            return secure(raw, self._context(proxy.origin), proxy.origin.host)
        except OSError as error:
            raw.close()
            named = explain(error, f"the proxy {proxy.origin.header}")
            raise named or unreachable(proxy, _reason(error)) from None
        except BaseException:
            raw.close()
            raise

    def _secured(
        self, raw: TimedSocket | ssl.SSLSocket, origin: Origin
    ) -> ssl.SSLSocket | TunnelledTls:
        from product.agent.net.tls import TimedTlsSocket, secure

        if not isinstance(raw, TimedTlsSocket):
            assert isinstance(raw, TimedSocket)
            return secure(raw, self._context(origin), origin.host)
        from product.agent.net.tunnel import TunnelledTls

        made = TunnelledTls(raw, self._context(origin), origin.host)
        made.shake_hands()
        return made

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
        if self.proxy is not None and self.origin.scheme == "http":
            target = f"http://{self.origin.header}{target}"
            if self.proxy.login:
                headers["Proxy-Authorization"] = self.proxy.login
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
    something is waited for, and raises what ends it. ``access`` says how servers are reached; where
    addresses are judged, no proxy is used, because only the proxy would know them.
    """

    def __init__(
        self,
        *,
        connect: float,
        silence: float,
        permit: Permit | None = None,
        interrupt: Callable[[], None] | None = None,
        access: Access | None = None,
    ) -> None:
        self._connect = connect
        self._access = access
        self._silence = silence
        self._permit = permit
        self._interrupt = interrupt
        self._open: dict[Origin, Connection] = {}
        self._logins: dict[Origin, str] = {}
        self._tls: dict[bool, ssl.SSLContext] = {}

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
        login = login or self._logins.get(origin)
        if self._access is not None:
            login = login or self._access.login_for(origin)
        if login:
            headers = {"Authorization": login} | headers
        seconds = EXCHANGE_SECONDS if until is None else max(until - monotonic(), 0.0)
        # A query may hold the signature of a link, and a token's service and scope: noise at best.
        url = without_login(url).partition("?")[0]
        try:
            connection = self._open.get(origin)
            if connection is None:
                connection = self._open[origin] = self._new(origin)
            connection.patience.allow(seconds)
            raw = connection.ask(target, headers, body)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._named(error, url, origin) from None
        if raw.status == 407 and connection.proxy is not None:
            from product.agent.net.proxy import refusal

            connection.close()
            raise refusal(raw.status, origin, connection.proxy)
        return Response(url, raw, connection, logged_in=bool(login))

    def _named(self, error: Exception, url: str, origin: Origin) -> AgentError:
        if type(error).__module__ == "ssl":
            from product.agent.net.tls import explain

            proved = self._is_home(origin) and bool(self._access and self._access.certificate)
            named = explain(error, origin.header, proved=proved)
            if named is not None:
                return named
        hint = "check the network, and the address in update.conf"
        if origin.scheme == "https" and isinstance(error, ConnectionError):
            # What it said of that is lost where it closes before the request was read.
            hint += "; a server may hang up on whoever shows no client certificate"
        return TransientError(f"cannot reach {url}: {_reason(error)}", hint=hint)

    def _new(self, origin: Origin) -> Connection:
        proxy = None
        if self._access is not None and self._permit is None:
            proxy = self._access.proxy_for(origin)
        return Connection(
            origin,
            Patience(self._silence, self._interrupt),
            connect=self._connect,
            context=self._context,
            permit=self._permit,
            proxy=proxy,
        )

    def _is_home(self, origin: Origin) -> bool:
        return self._access is not None and origin == self._access.home

    def _context(self, origin: Origin) -> ssl.SSLContext:
        proves = self._is_home(origin)
        if proves not in self._tls:
            from product.agent.net.tls import new_context

            self._tls[proves] = new_context(self._access, proves=proves)
        return self._tls[proves]


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
