"""A static web server on loopback that fails on purpose.

The guest reaches it at 10.0.2.2, QEMU's name for the host in its user network. Each fault counts
the answers it changed and tells when it has fired, so that a scenario can prove it. A request that
it applies to and whose answer is what it would be anyway, such as one for a part of the file that
it leaves alone, does not count.
"""

from __future__ import annotations

import fnmatch
import http.server
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self
from urllib.parse import unquote, urlsplit

from harness.deadline import Deadline
from harness.errors import DeadlineError

GUEST_ADDRESS = "10.0.2.2"

_PIECE = 16 * 1024
_RANGE = re.compile(r"bytes=(\d+)-(\d*)$")


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it was answered; ``sent`` counts the body's bytes."""

    time: float
    method: str
    path: str
    range: str | None
    status: int
    sent: int


@dataclass(eq=False)
class Fault:
    """What goes wrong with requests whose path matches ``pattern`` (shell style).

    Exactly one of the kinds is set. ``times`` limits how many answers it changes; None is all.
    ``count`` is how many it has changed.
    """

    pattern: str
    times: int | None = None
    status: int | None = None  # answer with this status and no file
    cut_after: int | None = None  # close the connection after so many bytes of the body
    hold_after: int | None = None  # send nothing more after so many bytes until released
    tamper_at: int | None = None  # invert the byte at this offset of the file
    truncate_to: int | None = None  # serve only so many bytes, as if the file were shorter
    rate: int | None = None  # bytes a second
    fired: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)
    count: int = 0
    pending: int = 0  # requests that it applies to and that it has not changed yet

    @property
    def applies(self) -> bool:
        """Whether it is for another request, too."""
        return self.times is None or self.count + self.pending < self.times

    def wait_fired(self, deadline: Deadline) -> None:
        """Return once it has changed an answer. Raises DeadlineError."""
        if not self.fired.wait(deadline.remaining):
            raise DeadlineError(
                f"no request for {self.pattern} met its fault within {deadline.seconds:.0f} s"
            )

    def release(self) -> None:
        """Let held requests go on, and slow ones at full speed."""
        self.released.set()


class WebServer:
    """Serves ``directory``, with ranges unless ``ranges`` is False, on a port of its own.

    ``record`` is called with what a fault does when it does so first. ``address`` is where nodes
    find this host; the server listens on its loopback, with ``everywhere`` on all addresses. Use as
    a context manager.
    """

    def __init__(
        self,
        directory: Path,
        *,
        ranges: bool = True,
        record: Callable[[str], None] | None = None,
        address: str = GUEST_ADDRESS,
        everywhere: bool = False,
    ) -> None:
        self.directory = directory
        self.ranges = ranges
        self._address = address
        self._record = record
        self._lock = threading.Condition()
        self._faults: list[Fault] = []
        self._requests: list[Request] = []
        handler = partial(_Handler, self)
        self._server = http.server.ThreadingHTTPServer(
            ("" if everywhere else "127.0.0.1", 0), handler
        )
        self._server.daemon_threads = True
        self._server.block_on_close = False
        # The loop's own period decides how long a stop takes.
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="webserver", daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """The port on the host's loopback."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """Its address as the guest sees it."""
        return f"http://{self._address}:{self.port}"

    @property
    def host_url(self) -> str:
        """Its address as the host sees it."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def requests(self) -> list[Request]:
        """Every request answered so far, in the order of their ends."""
        with self._lock:
            return list(self._requests)

    def wait_requests(self, count: int, deadline: Deadline) -> list[Request]:
        """Requests once at least ``count`` have been answered: a client may have its whole answer
        before the server has noted it. Raises DeadlineError."""
        with self._lock:
            if not self._lock.wait_for(lambda: len(self._requests) >= count, deadline.remaining):
                raise DeadlineError(
                    f"{len(self._requests)} of {count} requests within {deadline.seconds:.0f} s"
                )
            return list(self._requests)

    def fail(self, pattern: str, status: int = 503, *, times: int | None = None) -> Fault:
        """Answer with an error."""
        return self._add(Fault(pattern, times, status=status))

    def cut(self, pattern: str, after: int, *, times: int | None = 1) -> Fault:
        """Break the connection after ``after`` bytes."""
        return self._add(Fault(pattern, times, cut_after=after))

    def hold(self, pattern: str, after: int, *, times: int | None = 1) -> Fault:
        """Stall after ``after`` bytes until the fault is released."""
        return self._add(Fault(pattern, times, hold_after=after))

    def tamper(self, pattern: str, at: int, *, times: int | None = None) -> Fault:
        """Change one byte on the way."""
        return self._add(Fault(pattern, times, tamper_at=at))

    def truncate(self, pattern: str, to: int, *, times: int | None = None) -> Fault:
        """Serve a shorter file."""
        return self._add(Fault(pattern, times, truncate_to=to))

    def throttle(self, pattern: str, rate: int, *, times: int | None = None) -> Fault:
        """Send at most ``rate`` bytes a second on each connection."""
        return self._add(Fault(pattern, times, rate=rate))

    def clear(self) -> None:
        """Remove every fault and let held requests go on."""
        with self._lock:
            faults, self._faults = self._faults, []
        for fault in faults:
            fault.release()

    def close(self) -> None:
        """Stop serving."""
        self.clear()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _add(self, fault: Fault) -> Fault:
        with self._lock:
            self._faults.append(fault)
        return fault

    def take_fault(self, path: str) -> Fault | None:
        """The first fault that applies to a request for ``path``, which is to be returned."""
        with self._lock:
            for fault in self._faults:
                if fnmatch.fnmatchcase(path, fault.pattern) and fault.applies:
                    fault.pending += 1
                    return fault
        return None

    def fire(self, fault: Fault, what: str) -> None:
        """Count and record that a fault changes the answer to a request that took it."""
        with self._lock:
            fault.pending -= 1
            fault.count += 1
            first = not fault.fired.is_set()
            if first and self._record is not None:
                self._record(what)
            fault.fired.set()

    def return_fault(self, fault: Fault) -> None:
        """The answer to a request that took it is what it would be anyway."""
        with self._lock:
            fault.pending -= 1

    def log(self, request: Request) -> None:
        """Record an answered request."""
        with self._lock:
            self._requests.append(request)
            self._lock.notify_all()


class _Handler(http.server.BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server_version = "static"
    sys_version = ""

    def __init__(self, web: WebServer, *arguments: object) -> None:
        self._web = web
        self._status = 0
        self._sent = 0
        self._fired = False
        # Whatever socketserver hands over is passed on as it is.
        super().__init__(*arguments)  # type: ignore[arg-type]

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing: the request log has it all."""

    def do_GET(self) -> None:
        """A file, whole or in part."""
        self._serve(body=True)

    def do_HEAD(self) -> None:
        """A file's headers."""
        self._serve(body=False)

    def _serve(self, *, body: bool) -> None:
        begun = time.monotonic()
        self._status = self._sent = 0
        self._fired = False
        path = unquote(urlsplit(self.path).path)
        fault = self._web.take_fault(path)
        try:
            self._answer(path, fault, body=body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            if fault is not None and not self._fired:
                self._web.return_fault(fault)
            asked = self.headers.get("Range")
            entry = Request(begun, self.command, path, asked, self._status, self._sent)
            self._web.log(entry)

    def _answer(self, path: str, fault: Fault | None, *, body: bool) -> None:
        if fault is not None and fault.status is not None:
            self._fire(fault, f"status {fault.status} for {path}")
            self._refuse(fault.status)
            return
        root = self._web.directory.resolve()
        file = (root / path.lstrip("/")).resolve()
        if not file.is_relative_to(root) or not file.is_file():
            self._refuse(404)
            return
        with file.open("rb") as stream:
            size = file.stat().st_size
            shorter = None if fault is None else fault.truncate_to
            if fault is not None and shorter is not None and shorter < size:
                size = shorter
                self._fire(fault, f"{path} truncated to {size} bytes")
            start, stop = 0, size
            asked = self.headers.get("Range") if self._web.ranges else None
            if asked is not None and (match := _RANGE.match(asked)) is not None:
                start = int(match[1])
                stop = min(size, int(match[2]) + 1) if match[2] else size
                if start >= size or start >= stop:
                    self._refuse(416, {"Content-Range": f"bytes */{size}"})
                    return
                self._begin(
                    206, stop - start, {"Content-Range": f"bytes {start}-{stop - 1}/{size}"}
                )
            else:
                self._begin(200, size, {"Accept-Ranges": "bytes"} if self._web.ranges else {})
            if body:
                self._send_body(stream, path, start, stop, fault)

    def _send_body(
        self, stream: BinaryIO, path: str, start: int, stop: int, fault: Fault | None
    ) -> None:
        stream.seek(start)
        position = start
        begun = time.monotonic()
        while position < stop:
            room = min(_PIECE, stop - position)
            limit = None if fault is None else _first(fault.cut_after, fault.hold_after)
            if limit is not None and self._sent < limit:
                room = min(room, limit - self._sent)
            elif limit is not None and fault is not None:
                self.wfile.flush()
                if fault.cut_after is not None:
                    self._fire(fault, f"connection cut after {self._sent} bytes of {path}")
                    self.close_connection = True
                    return
                self._fire(fault, f"{path} held after {self._sent} bytes")
                fault.released.wait()
                fault = None
                continue
            data = stream.read(room)
            if not data:
                self.close_connection = True
                return
            if fault is not None:
                data = self._changed(data, position, path, fault)
            self.wfile.write(data)
            position += len(data)
            self._sent += len(data)
            if fault is not None and fault.rate is not None:
                self._fire(fault, f"{path} at {fault.rate} bytes a second")
                fault.released.wait(max(0.0, begun + self._sent / fault.rate - time.monotonic()))

    def _changed(self, data: bytes, position: int, path: str, fault: Fault) -> bytes:
        at = fault.tamper_at
        if at is None or not position <= at < position + len(data):
            return data
        changed = bytearray(data)
        changed[at - position] ^= 0xFF
        self._fire(fault, f"byte {at} of {path} inverted")
        return bytes(changed)

    def _fire(self, fault: Fault, what: str) -> None:
        """Once a request, before the client can see the change: it may ask the fault at once."""
        if not self._fired:
            self._fired = True
            self._web.fire(fault, what)

    def _begin(self, status: int, length: int, headers: dict[str, str]) -> None:
        self._status = status
        self.send_response(status)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _refuse(self, status: int, headers: dict[str, str] | None = None) -> None:
        self._begin(status, 0, headers or {})


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)
