"""A real HTTP proxy on loopback: CONNECT, absolute-form requests, a login, and refusals."""

from __future__ import annotations

import contextlib
import http.client
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class Proxy(ThreadingHTTPServer):
    """``seen`` are the method and target of every request; ``names`` maps hosts to addresses."""

    daemon_threads = True

    def __init__(self, login: str | None, context: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self._scheme = "http" if context is None else "https"
        if context is not None:
            self.socket = context.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )
        self.login = login
        self.seen: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.names: dict[str, str] = {}
        # Answered in place of what was asked for, where it is set.
        self.status: int | None = None
        # Nothing is answered until the test is over.
        self.silent = False
        self.over = threading.Event()

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.server_address[1]}"

    def url_with(self, login: str) -> str:
        """The same with a login."""
        return self.url.replace("//", f"//{login}@")

    def reach(self, host: str, port: int) -> socket.socket:
        return socket.create_connection((self.names.get(host, host), port), 10)

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up in the middle are what the tests are about: say nothing."""


class Handler(BaseHTTPRequestHandler):
    """One client."""

    protocol_version = "HTTP/1.1"
    server: Proxy

    def _refused(self) -> bool:
        self.server.seen.append((self.command, self.path))
        self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
        if self.server.silent:
            self.server.over.wait(60)
            return True
        status = self.server.status
        if self.server.login and self.headers.get("Proxy-Authorization") != self.server.login:
            status = 407
        if status is None:
            return False
        self.send_response(status)
        if status == 407:
            self.send_header("Proxy-Authenticate", 'Basic realm="proxy"')
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"no\n")
        return True

    def do_CONNECT(self) -> None:
        self.close_connection = True
        if self._refused():
            return
        host, _, port = self.path.rpartition(":")
        try:
            there = self.server.reach(host.strip("[]"), int(port))
        except OSError:
            self.send_error(502)
            return
        self.send_response(200, "Connection established")
        self.end_headers()
        with there:
            self._carry(there)

    def _carry(self, there: socket.socket) -> None:
        here = self.connection
        with contextlib.suppress(OSError):
            while not self.server.over.is_set():
                pending = isinstance(here, ssl.SSLSocket) and here.pending()
                ready = [here] if pending else select.select([here, there], [], [], 0.1)[0]
                for one, other in ((here, there), (there, here)):
                    if one in ready:
                        data = one.recv(65536)
                        if not data:
                            return
                        other.sendall(data)

    def do_GET(self) -> None:
        if self._refused():
            return
        parts = urlsplit(self.path)
        if not parts.hostname:
            self.send_error(400)
            return
        name = parts.hostname
        asked = http.client.HTTPConnection(self.server.names.get(name, name), parts.port or 80)
        kept = {k: v for k, v in self.headers.items() if not k.lower().startswith("proxy-")}
        given = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        asked.request(self.command, parts.path, given or None, headers=kept)
        answer = asked.getresponse()
        body = answer.read()
        asked.close()
        self.send_response(answer.status)
        for key, value in answer.headers.items():
            if key.lower() not in ("content-length", "connection", "transfer-encoding"):
                self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Keep the tests' output clean."""


@contextlib.contextmanager
def serve_proxy(login: str | None = None, context: ssl.SSLContext | None = None) -> Iterator[Proxy]:
    """A proxy while the block runs; ``login`` is the header's value that it wants."""
    with Proxy(login, context) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield proxy
        finally:
            proxy.over.set()
            proxy.shutdown()
            thread.join()
