"""Every frame between a machine's network card and its network, in this process's hands.

QEMU's ``filter-redirector`` hands each frame out over a socket and takes back what shall go on, on
the present card and network, while the machine runs.
"""

from __future__ import annotations

import contextlib
import enum
import heapq
import itertools
import selectors
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from harness.errors import HarnessError
from harness.qemu.machine import Machine

# Each frame comes behind its length (net/filter-mirror.c).
_LENGTH = struct.Struct(">I")
# As long as a frame may be, with offloads.
_LONGEST = 68 * 1024
_CONNECT_SECONDS = 30.0
_NETDEV = "net0"


class Direction(enum.Enum):
    """Which way a frame goes; the value is QEMU's name of the queue."""

    OUT = "rx"  # from the guest to its network
    IN = "tx"  # from the network to the guest


# What becomes of a frame: it goes on after so many seconds, once for each; not at all for none.
# A pair is another frame, which goes that way.
Decision = Iterable["float | tuple[Direction, bytes]"]
Rule = Callable[[Direction, bytes], Decision]


class Relay:
    """A context manager; ``rule`` decides of each frame, in a thread of the relay's own.

    A rule that raises lets its frame pass and is what the end of the context raises.
    """

    _numbers = itertools.count(1)

    def __init__(self, machine: Machine, rule: Rule) -> None:
        self._machine = machine
        self._rule = rule
        self._name = f"relay{next(self._numbers)}"
        self._objects: list[str] = []
        self._chardevs: list[str] = []
        self._sockets: list[socket.socket] = []
        self._incoming: dict[Direction, socket.socket] = {}
        self._outgoing: dict[Direction, socket.socket] = {}
        self._buffers = {direction: bytearray() for direction in Direction}
        self._waiting: list[tuple[float, int, Direction, bytes]] = []
        self._order = itertools.count()
        self._failure: Exception | None = None
        self._stop, self._stopped = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)

    def __enter__(self) -> Self:
        try:
            for direction in Direction:
                outdev, self._incoming[direction] = self._connect(f"{direction.value}-out")
                indev, self._outgoing[direction] = self._connect(f"{direction.value}-in")
                name = f"{self._name}-{direction.value}"
                self._machine.qmp(
                    "object-add",
                    **{
                        "qom-type": "filter-redirector", "id": name, "netdev": _NETDEV,
                        "queue": direction.value, "indev": indev, "outdev": outdev,
                    },
                )  # fmt: skip
                self._objects.append(name)
        except BaseException:
            self._disconnect()
            raise
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # From here on frames go their own way; those that wait are lost.
        if self._machine.running:
            for name in self._objects:
                self._machine.qmp("object-del", id=name)
        self._objects.clear()
        self._stop.close()
        if self._thread.ident is not None:
            self._thread.join()
        self._disconnect()
        if self._failure is not None and kind is None:
            raise HarnessError(f"the frame relay failed: {self._failure}") from self._failure

    def _connect(self, what: str) -> tuple[str, socket.socket]:
        """A stream to QEMU, and its name there. Raises HarnessError."""
        name = f"{self._name}-{what}"
        # A path may be no longer than a hundred characters, which a run directory's can be.
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as server:
            path = str(Path(folder) / "s")
            server.bind(path)
            server.listen(1)
            server.settimeout(_CONNECT_SECONDS)
            address = {"type": "unix", "data": {"path": path}}
            self._machine.qmp(
                "chardev-add",
                id=name,
                backend={"type": "socket", "data": {"addr": address, "server": False}},
            )
            self._chardevs.append(name)
            stream, _ = server.accept()
        self._sockets.append(stream)
        return name, stream

    def _disconnect(self) -> None:
        with contextlib.suppress(HarnessError):
            for name in self._objects if self._machine.running else ():
                self._machine.qmp("object-del", id=name)
            for name in self._chardevs if self._machine.running else ():
                self._machine.qmp("chardev-remove", id=name)
        self._chardevs.clear()
        for stream in (*self._sockets, self._stop, self._stopped):
            stream.close()

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._stopped, selectors.EVENT_READ)
            for direction, stream in self._incoming.items():
                selector.register(stream, selectors.EVENT_READ, direction)
            while True:
                for key, _ in selector.select(self._send_due()):
                    if key.data is None:
                        return
                    if not self._receive(key.data):
                        selector.unregister(key.fileobj)

    def _receive(self, direction: Direction) -> bool:
        """Take what has come; whether more may."""
        try:
            data = self._incoming[direction].recv(_LONGEST)
        except OSError:
            data = b""
        buffer = self._buffers[direction]
        buffer += data
        while len(buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer)
            if len(buffer) < _LENGTH.size + length:
                break
            frame = bytes(buffer[_LENGTH.size : _LENGTH.size + length])
            del buffer[: _LENGTH.size + length]
            self._decide(direction, frame)
        return bool(data)

    def _decide(self, direction: Direction, frame: bytes) -> None:
        try:
            decisions = list(self._rule(direction, frame))
        except Exception as error:  # Whatever it is, the guest's network goes on.
            self._failure = self._failure or error
            decisions = [0.0]
        now = time.monotonic()
        for one in decisions:
            wait, way, data = (0.0, *one) if isinstance(one, tuple) else (one, direction, frame)
            if wait <= 0:
                self.send(way, data)
            else:
                heapq.heappush(self._waiting, (now + wait, next(self._order), way, data))

    def _send_due(self) -> float | None:
        """Send what has waited long enough; seconds until the next."""
        while self._waiting:
            left = self._waiting[0][0] - time.monotonic()
            if left > 0:
                return left
            _, _, direction, frame = heapq.heappop(self._waiting)
            self.send(direction, frame)
        return None

    def send(self, direction: Direction, frame: bytes) -> None:
        """Send a frame that way, at once."""
        # A machine that is switched off takes no more.
        with contextlib.suppress(OSError):
            self._outgoing[direction].sendall(_LENGTH.pack(len(frame)) + frame)
