"""An NTP server on loopback whose clock, and whether it answers, a scenario decides.

The guest reaches it at 10.0.2.2, QEMU's name for the host in its user network. It speaks the
server's part of RFC 5905 as far as a client needs it to set its clock.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from types import TracebackType
from typing import Self

from harness.deadline import Deadline
from harness.errors import DeadlineError
from harness.faults.http import GUEST_ADDRESS

# Seconds from 1900, where NTP begins, to 1970.
_EPOCH = 2208988800
_PACKET = struct.Struct("!BBbb3I4Q")
_CLIENT, _SERVER = 3, 4


class TimeServer:
    """Tells the host's time moved by ``offset`` seconds; a context manager.

    It is silent until ``answer``. ``asked`` and ``answered`` count packets.
    """

    def __init__(self, *, offset: float = 0.0) -> None:
        self.offset = offset
        self.asked = 0
        self.answered = 0
        self._answering = threading.Event()
        self._changed = threading.Condition()
        self._stopped = False
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(0.2)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def guest_name(self) -> str:
        """HOST:PORT as a guest with QEMU's user network reaches it."""
        return f"{GUEST_ADDRESS}:{self.port}"

    @property
    def port(self) -> int:
        """Chosen by the operating system."""
        return int(self._socket.getsockname()[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopped = True
        self._thread.join()
        self._socket.close()

    def now(self) -> float:
        """What it tells, in seconds since 1970."""
        return time.time() + self.offset

    def answer(self) -> None:
        """From now on."""
        self._answering.set()

    def fall_silent(self) -> None:
        """Until ``answer``; a client sees a server that is not there."""
        self._answering.clear()

    def wait_asked(self, deadline: Deadline, times: int = 1) -> None:
        """Return once so many packets have come. Raises DeadlineError."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.asked >= times, deadline.remaining):
                raise DeadlineError(
                    f"{self.asked} of {times} packets reached the time server within "
                    f"{deadline.seconds:.0f} s"
                )

    def _serve(self) -> None:
        while not self._stopped:
            try:
                packet, client = self._socket.recvfrom(1024)
            except TimeoutError:
                continue
            with self._changed:
                self.asked += 1
                self._changed.notify_all()
            if not self._answering.is_set():
                continue
            if reply := answer_to(packet, self.now()):
                self.answered += 1
                self._socket.sendto(reply, client)


def answer_to(packet: bytes, now: float) -> bytes | None:
    """A stratum-2 server's reply at ``now``; None to what is no client's request."""
    if len(packet) < _PACKET.size:
        return None
    first, _, poll, *_, sent = _PACKET.unpack_from(packet)
    if first & 7 != _CLIENT:
        return None
    stamp = round((now + _EPOCH) * 2**32) % 2**64
    version = first >> 3 & 7
    # No leap second; a precision of about a microsecond; 1/1000 s from the reference and its error.
    head = (version << 3 | _SERVER, 2, poll, -20, 66, 66, 0x7F7F0101)
    return _PACKET.pack(*head, stamp - (16 << 32), sent, stamp, stamp)
