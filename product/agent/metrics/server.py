"""The unprivileged part of the service: answers ``GET /metrics`` and nothing else.

One thread, and a bounded number of connections, each with a deadline. Where all are taken the
oldest one makes room, so that slow clients keep nobody away. What is read of a client is its first
kilobytes; what it asks for is one path. It runs all the time on small nodes: it imports no more
than sockets. It ends where ``listen`` has changed, and its supervisor starts it with the new one.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import time

from product.agent.metrics.text_format import CONTENT_TYPE, encode
from product.agent.metrics.vitals import vital_families
from product.agent.system.vitals import read_vitals

MAX_CONNECTIONS = 16
MAX_REQUEST = 8 * 1024
SEND_BUFFER = 64 * 1024
MAX_FACTS = 1024 * 1024
# From the first byte to the last, in both directions: seconds.
SECONDS = 10.0
# How long a client may take to see that it has everything: seconds.
LINGER = 2.0
# How often a new ``listen`` is looked for.
LOOK = 15.0
# IP_FREEBIND: an address may come later, as a pod network's bridge does. Linux; ip(7), ipv6(7).
_FREEBIND = ((socket.IPPROTO_IP, 15), (socket.IPPROTO_IPV6, 78))
PATH = b"/metrics"


class _Client:
    """One connection: a request that is not complete, then an answer that is not sent."""

    def __init__(self, connection: socket.socket, now: float) -> None:
        self.connection = connection
        self.end = now + SECONDS
        self.request = b""
        self.answer: memoryview | None = None
        self.finished = False


class Server:
    """Listens at ``addresses``, of IPv4 or IPv6, and serves the file ``facts`` with the kernel's
    own figures of ``proc``. Raises OSError where an address cannot be used."""

    def __init__(self, addresses: list[str], port: int, facts: str, proc: str = "/proc") -> None:
        self._facts = facts
        self._proc = proc
        self._clients: dict[int, _Client] = {}
        self._listeners: dict[int, socket.socket] = {}
        for address in addresses:
            listener = _listen(address, port)
            self._listeners[listener.fileno()] = listener

    @property
    def ports(self) -> list[int]:
        """Where it listens, in the order of the addresses."""
        return [int(listener.getsockname()[1]) for listener in self._listeners.values()]

    def close(self) -> None:
        """Let go of every socket."""
        for client in list(self._clients.values()):
            self._drop(client)
        for listener in self._listeners.values():
            listener.close()

    def step(self, seconds: float) -> None:
        """Serve what comes within ``seconds``, or until the first of it is served."""
        now = time.monotonic()
        for client in list(self._clients.values()):
            if client.end <= now:
                self._drop(client)
            else:
                seconds = min(seconds, client.end - now)
        poll = select.poll()
        for descriptor in self._listeners:
            poll.register(descriptor, select.POLLIN)
        for descriptor, client in self._clients.items():
            sends = client.answer is not None and not client.finished
            poll.register(descriptor, select.POLLOUT if sends else select.POLLIN)
        # Rounded up: a poll of nothing would spin until the deadline.
        for descriptor, _ in poll.poll(int(seconds * 1000) + 1):
            if descriptor in self._listeners:
                self._accept(self._listeners[descriptor])
            elif descriptor in self._clients:
                self._serve(self._clients[descriptor])

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        connection.setblocking(False)
        # What clients do not take would lie in the kernel, megabytes of it for each.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        if len(self._clients) >= MAX_CONNECTIONS:
            self._drop(min(self._clients.values(), key=lambda client: client.end))
        self._clients[connection.fileno()] = _Client(connection, time.monotonic())

    def _serve(self, client: _Client) -> None:
        try:
            if client.finished:
                if not client.connection.recv(MAX_REQUEST):
                    self._drop(client)
                return
            if client.answer is None:
                self._read(client)
            if client.answer is not None:
                client.answer = client.answer[client.connection.send(client.answer) :]
                if not client.answer:
                    self._finish(client)
        except BlockingIOError:
            return
        except OSError:
            self._drop(client)

    def _read(self, client: _Client) -> None:
        data = client.connection.recv(MAX_REQUEST)
        client.request += data
        ended = b"\r\n\r\n" in client.request or b"\n\n" in client.request
        if ended or len(client.request) >= MAX_REQUEST:
            client.answer = memoryview(self._answer(client.request, ended))
        elif not data:
            self._drop(client)

    def _finish(self, client: _Client) -> None:
        """Let the client close: closing over what it still sends would take the answer back."""
        client.connection.shutdown(socket.SHUT_WR)
        client.finished = True
        client.end = min(client.end, time.monotonic() + LINGER)

    def _drop(self, client: _Client) -> None:
        self._clients.pop(client.connection.fileno(), None)
        client.connection.close()

    def _answer(self, request: bytes, ended: bool) -> bytes:
        if not ended:
            return _response("431 Request Header Fields Too Large", "the request is too long\n")
        words = request.split(b"\n", 1)[0].rstrip(b"\r").split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return _response("400 Bad Request", "this is no HTTP/1 request\n")
        method, target = words[0], words[1].split(b"?")[0]
        if target != PATH:
            return _response("404 Not Found", "only /metrics is here\n", method)
        if method not in (b"GET", b"HEAD"):
            return _response(
                "405 Method Not Allowed", "only GET and HEAD\n", more="Allow: GET, HEAD\r\n"
            )
        try:
            text = self.text()
        except OSError:
            return _response("503 Service Unavailable", "no figures were collected yet\n", method)
        return _response("200 OK", text, method, CONTENT_TYPE)

    def text(self) -> str:
        """The whole answer. Raises OSError before anything was collected."""
        with open(self._facts, "rb") as file:
            facts = file.read(MAX_FACTS).decode("utf-8", "replace")
            age = max(time.time() - os.fstat(file.fileno()).st_mtime, 0)
        return facts + encode(vital_families(read_vitals(self._proc), round(age, 1)))


def _listen(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # "::" is every address of both families, whatever the system's default; any other
            # address is itself, so that 127.0.0.1 may stand beside ::1.
            only = int(address != "::")
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        level, option = _FREEBIND[family == socket.AF_INET6]
        listener.setsockopt(level, option, 1)
        listener.bind((address, port))
        listener.listen(MAX_CONNECTIONS)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _response(
    status: str, text: str, method: bytes = b"GET", kind: str = "text/plain; charset=utf-8",
    more: str = "",
) -> bytes:  # fmt: skip
    body = text.encode()
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        f"{more}Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    ).encode()
    return head if method == b"HEAD" else head + body


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def main(arguments: list[str]) -> int:
    """``main([LISTEN, FACTS])``: serve until LISTEN is another one; 1 where that is impossible."""
    listen, facts = arguments
    stamp = _stamp(listen)
    port, addresses = "", []
    try:
        with open(listen) as file:
            port, *addresses = file.read().split()
        server = Server(addresses, int(port), facts)
    except (OSError, ValueError) as error:
        where = f"port {port} of {', '.join(addresses)}" if addresses else listen
        print(f"cannot serve at {where}: {error}", file=sys.stderr)
        return 1
    looked = time.monotonic()
    while True:
        server.step(LOOK)
        if time.monotonic() - looked >= LOOK:
            looked = time.monotonic()
            if _stamp(listen) != stamp:
                server.close()
                return 0
