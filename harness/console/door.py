"""Sockets in a machine's folder, at which other processes of the same user knock.

A folder's path may be longer than an address may be: both sides go by the folder's descriptor.
"""

from __future__ import annotations

import contextlib
import os
import queue
import select
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from harness.console.recorder import Recorder
from harness.errors import HarnessError

CONSOLE = "console"
# What who comes late is shown of the console, in bytes.
_BEFORE = 4096
_READ = 64 * 1024
# Seconds that a client has to take what the console said last.
_LAST = 1.0


class Door:
    """The socket ``name`` in a folder; ``serve`` runs in a thread of its own for each client, and
    ends when the client's socket has nothing more to read."""

    def __init__(self, folder: Path, name: str, serve: Callable[[socket.socket], None]) -> None:
        self._serve = serve
        self._listener = socket.socket(socket.AF_UNIX)
        with _at(folder, name) as address:
            self._listener.bind(address)
        self._listener.listen()
        self._lock = threading.Lock()
        self._clients: dict[socket.socket, threading.Thread] = {}
        self._thread = threading.Thread(target=self._accept, name=f"door-{name}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Let nobody in any more, and those who are in read to the end."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        with self._lock:
            clients = dict(self._clients)
        for client in clients:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RD)
        for thread in clients.values():
            thread.join(2 * _LAST)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._one, args=(client,), daemon=True)
            with self._lock:
                self._clients[client] = thread
            thread.start()

    def _one(self, client: socket.socket) -> None:
        try:
            with client, contextlib.suppress(OSError):
                self._serve(client)
        finally:
            with self._lock:
                self._clients.pop(client, None)


def connect(folder: Path, name: str) -> socket.socket:
    """The socket ``name`` of a machine's folder. Raises OSError."""
    stream = socket.socket(socket.AF_UNIX)
    try:
        with _at(folder, name) as address:
            stream.connect(address)
    except BaseException:
        stream.close()
        raise
    return stream


def console_door(folder: Path, recorder: Recorder, type_in: Callable[[bytes], None]) -> Door:
    """The serial console for whoever comes: what it said last, what it says, and what they type."""

    def serve(client: socket.socket) -> None:
        _join(client, recorder, type_in)

    return Door(folder, CONSOLE, serve)


class _at(contextlib.AbstractContextManager[str]):
    """An address of a file in a folder, short whatever the folder's path is."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name

    def __enter__(self) -> str:
        self._descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._descriptor}/{self._name}"

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def _join(client: socket.socket, recorder: Recorder, type_in: Callable[[bytes], None]) -> None:
    said: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    more = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def listen(data: bytes) -> None:
        said.put(data)
        os.eventfd_write(more, 1)

    since = max(0, recorder.position - _BEFORE)
    recorder.subscribe(listen, since)
    try:
        client.settimeout(None)
        while True:
            ready, _, _ = select.select([client.fileno(), more], [], [])
            if more in ready:
                os.eventfd_read(more)
                client.sendall(_taken(said))
            if client.fileno() in ready:
                keys = client.recv(_READ)
                if not keys:
                    break
                # Nobody listens while the machine is off; the client sees that by itself.
                with contextlib.suppress(HarnessError, TimeoutError):
                    type_in(keys)
        client.settimeout(_LAST)
        client.sendall(_taken(said))
    finally:
        recorder.unsubscribe(listen)
        os.close(more)


def _taken(said: queue.SimpleQueue[bytes]) -> bytes:
    pieces = []
    with contextlib.suppress(queue.Empty):
        while True:
            pieces.append(said.get_nowait())
    return b"".join(pieces)
