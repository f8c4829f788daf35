"""A real HTTP server on loopback that serves a directory and can be told to misbehave.

It knows Range requests. A behaviour is a function that answers one request instead of the server:
it gets the handler, the file's bytes and the first byte asked for.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

Behaviour = Callable[["Handler", bytes, int], None]


class Server(ThreadingHTTPServer):
    """``misbehaviours`` are consulted in order; each is used up after its number of requests."""

    daemon_threads = True

    def __init__(self, directory: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.directory = directory
        self.misbehaviours: list[tuple[re.Pattern[str], Behaviour, list[int]]] = []
        # (path, first byte asked for or None) of every request.
        self.seen: list[tuple[str, int | None]] = []
        # Their headers.
        self.headers: list[dict[str, str]] = []
        # Bytes of all bodies.
        self.sent = 0
        # Set when the test is over, so that an endless answer ends.
        self.over = threading.Event()

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def misbehave(self, pattern: str, behaviour: Behaviour, times: int = 1_000_000) -> None:
        """Let ``behaviour`` answer the next ``times`` requests whose path ``pattern`` matches."""
        self.misbehaviours.append((re.compile(pattern), behaviour, [times]))

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up in the middle are what the tests are about: say nothing."""


class Handler(BaseHTTPRequestHandler):
    """Answers GET from the server's directory."""

    protocol_version = "HTTP/1.1"
    server: Server
    # Whether a range without an end was asked for.
    open_range = False

    def do_GET(self) -> None:
        span = self.headers.get("Range")
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", span) if span else None
        start = int(match[1]) if match else None
        self.open_range = bool(match and not match[2])
        self.server.seen.append((self.path, start))
        self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
        file = self.server.directory / self.path.lstrip("/")
        data = file.read_bytes() if file.is_file() else b""
        for pattern, behaviour, left in self.server.misbehaviours:
            if left[0] > 0 and pattern.search(self.path):
                left[0] -= 1
                behaviour(self, data, start or 0)
                return
        if not file.is_file():
            self.answer(404, b"")
        elif start is None:
            self.answer(200, data)
        elif start >= len(data):
            self.answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
        else:
            part = data[start:]
            self.answer(206, part, {"Content-Range": content_range(start, part, data)})

    do_POST = do_GET

    def answer(
        self,
        status: int,
        body: bytes,
        headers: dict[str, str] | None = None,
        *,
        length: int | None = -1,
    ) -> None:
        """Send a response; ``length`` None leaves Content-Length out and closes at the end."""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if length is None:
            self.send_header("Connection", "close")
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(len(body) if length == -1 else length))
        self.end_headers()
        self.wfile.write(body)
        self.server.sent += len(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the tests' output clean."""


def content_range(start: int, part: bytes, data: bytes) -> str:
    """``part`` of ``data`` from ``start``, as the header states it."""
    return f"bytes {start}-{start + len(part) - 1}/{len(data)}"


@contextlib.contextmanager
def serve(directory: Path) -> Iterator[Server]:
    """Serve ``directory`` while the block runs."""
    with Server(directory) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            thread.join()


def status(code: int, body: bytes = b"") -> Behaviour:
    """Answer ``code``."""
    return lambda handler, data, start: handler.answer(code, body)


def replaced(body: bytes, kind: str = "application/octet-stream") -> Behaviour:
    """Answer 200 with another body."""
    return lambda handler, data, start: handler.answer(200, body, {"Content-Type": kind})


def redirect(location: str) -> Behaviour:
    """Answer 302."""
    return lambda handler, data, start: handler.answer(302, b"", {"Location": location})


def tampered(handler: Handler, data: bytes, start: int) -> None:
    """Flip the last bit of the file."""
    handler.answer(200, data[:-1] + bytes([data[-1] ^ 1]))


def retry_after(code: int, value: str) -> Behaviour:
    """Answer ``code`` and ask to wait."""
    return lambda handler, data, start: handler.answer(code, b"", {"Retry-After": value})


def unsatisfied(size: int) -> Behaviour:
    """Answer 416 as of a file of ``size`` bytes."""
    return lambda handler, data, start: handler.answer(
        416, b"", {"Content-Range": f"bytes */{size}"}
    )


def unannounced_text(body: bytes) -> Behaviour:
    """Answer 200 with another body whose length is not said."""
    return lambda handler, data, start: handler.answer(200, body, length=None)


def whole_cut_after(count: int) -> Behaviour:
    """Announce the whole file whatever was asked, send ``count`` bytes of it and hang up."""

    def behave(handler: Handler, data: bytes, start: int) -> None:
        handler.answer(200, data[:count], length=len(data))
        handler.close_connection = True

    return behave


def range_ignored(handler: Handler, data: bytes, start: int) -> None:
    """Answer 200 with everything whatever was asked."""
    handler.answer(200, data)


def cut_after(count: int) -> Behaviour:
    """Announce the whole rest, send ``count`` bytes of it and hang up."""

    def behave(handler: Handler, data: bytes, start: int) -> None:
        rest = data[start:]
        headers = {"Content-Range": content_range(start, rest, data)} if start else {}
        handler.answer(206 if start else 200, rest[:count], headers, length=len(rest))
        handler.close_connection = True

    return behave


def short_part(count: int) -> Behaviour:
    """Answer a Range request with ``count`` bytes, truly announced as such."""

    def behave(handler: Handler, data: bytes, start: int) -> None:
        part = data[start : start + count]
        handler.answer(206, part, {"Content-Range": content_range(start, part, data)})

    return behave


def unannounced(handler: Handler, data: bytes, start: int) -> None:
    """Send the file without a Content-Length."""
    handler.answer(200, data, length=None)


def endless(handler: Handler, data: bytes, start: int) -> None:
    """Send zeros after the file for as long as anybody listens."""
    handler.answer(200, data, length=None)
    with contextlib.suppress(OSError):
        while not handler.server.over.is_set():
            handler.wfile.write(bytes(65536))
            handler.server.sent += 65536


def closed_ranges_alone(handler: Handler, data: bytes, start: int) -> None:
    """Refuse a range without an end, and break off after 60 % of what was asked for."""
    if handler.open_range:
        handler.answer(416, b"")
        return
    cut_after(-(-(len(data) - start) * 6 // 10))(handler, data, start)


def dripping_headers(handler: Handler, data: bytes, start: int) -> None:
    """Send a byte of an endless header every 20 ms."""
    _drip(handler, b"HTTP/1.1 200 OK\r\nX-Slow: ", b"a")


def continuing(handler: Handler, data: bytes, start: int) -> None:
    """Promise an answer every 20 ms."""
    _drip(handler, b"", b"HTTP/1.1 100 Continue\r\n\r\n")


def dripping_chunks(handler: Handler, data: bytes, start: int) -> None:
    """Announce a chunk, and send a byte of its size's extension every 20 ms."""
    _drip(handler, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;", b"a")


def dripping_trailers(handler: Handler, data: bytes, start: int) -> None:
    """Send the file in chunks, and a line behind its end every 20 ms."""
    begin = f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{len(data):x}\r\n".encode()
    _drip(handler, begin + data + b"\r\n0\r\n", b"X-Slow: a\r\n")


def _drip(handler: Handler, begin: bytes, drop: bytes) -> None:
    handler.close_connection = True
    with contextlib.suppress(OSError):
        handler.wfile.write(begin)
        while not handler.server.over.wait(0.02):
            handler.wfile.write(drop)
            handler.wfile.flush()


def silent(handler: Handler, data: bytes, start: int) -> None:
    """Take the request and answer nothing."""
    handler.close_connection = True
    handler.server.over.wait(60)


def slow_redirects(seconds: float) -> Behaviour:
    """Redirect to the same place after ``seconds``."""

    def behave(handler: Handler, data: bytes, start: int) -> None:
        handler.server.over.wait(seconds)
        handler.answer(302, b"", {"Location": handler.path})

    return behave


def dripping(handler: Handler, data: bytes, start: int) -> None:
    """Send one byte every 20 ms."""
    handler.answer(200, b"", length=len(data))
    with contextlib.suppress(OSError):
        for position in range(len(data)):
            if handler.server.over.wait(0.02):
                return
            handler.wfile.write(data[position : position + 1])
            handler.wfile.flush()
