"""One thread per machine that reads every stream QEMU writes, in the order it arrives."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
from collections.abc import Callable

from harness.journal.journal import Journal

_READ = 64 * 1024

OnData = Callable[[bytes], None]
OnEnd = Callable[[], None]


class Pump:
    """Calls a stream's handlers from its own thread; a handler must not block.

    Streams may be added and removed while it runs. A stream that ends is removed after its last
    call. So is one whose handler raises: the error goes to ``journal``, whose waits end with it,
    and the other streams go on.
    """

    def __init__(self, name: str, journal: Journal) -> None:
        self._name = name
        self._journal = journal
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._selector.register(self._wake_read, selectors.EVENT_READ, None)
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=f"pump-{name}", daemon=True)
        self._thread.start()

    def add(self, stream: socket.socket, on_data: OnData, on_end: OnEnd) -> None:
        """Read ``stream`` from now on; it becomes non-blocking."""
        stream.setblocking(False)
        with self._lock:
            self._selector.register(stream, selectors.EVENT_READ, (on_data, on_end))
        self._wake()

    def remove(self, stream: socket.socket) -> None:
        """Stop reading ``stream``, if that has not ended already."""
        with self._lock, contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(stream)

    def close(self) -> None:
        """Stop the thread; the streams stay open."""
        with self._lock:
            self._stopping = True
        self._wake()
        self._thread.join()
        self._selector.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # Full: it is about to wake anyway.
            os.write(self._wake_write, b"x")

    def _run(self) -> None:
        try:
            while not self._stopping:
                # epoll picks up registrations made while it waits; no lock is held meanwhile.
                for key, _ in self._selector.select():
                    if key.data is None:
                        os.read(self._wake_read, _READ)
                    else:
                        stream = key.fileobj
                        assert isinstance(stream, socket.socket)  # add() takes nothing else
                        self._serve(stream, *key.data)
        except Exception as error:
            self._tell(error)

    def _serve(self, stream: socket.socket, on_data: OnData, on_end: OnEnd) -> None:
        try:
            data = stream.recv(_READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            try:
                on_data(data)
            except Exception as error:
                self._tell(error)
            else:
                return
        self.remove(stream)
        try:
            on_end()
        except Exception as error:
            self._tell(error)

    def _tell(self, error: Exception) -> None:
        self._journal.broken(f"the reader of {self._name}'s streams", error)
