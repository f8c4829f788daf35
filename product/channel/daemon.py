"""Serves requests on one byte stream until it is told to stop.

One epoll loop, no threads, nothing polled. The stream is watched edge-triggered: a virtio-serial
port reports a hang-up for as long as the host's end is closed, and only the edge tells when the
host is back.
"""

from __future__ import annotations

import binascii
import contextlib
import errno
import os
import select
import time
from collections.abc import Callable

from product.channel import resync
from product.channel.command import Command
from product.channel.framing import PROTOCOL, Decoder, Message, encode

# Output waiting for the host beyond which commands are no longer read, and where they are again.
_BACKLOG_HIGH = 1024 * 1024
_BACKLOG_LOW = 256 * 1024

_READ = 64 * 1024


class RequestError(Exception):
    """A request that cannot be served; the text is the reply's ``error``."""


class Daemon:
    """The channel's server on ``descriptor``, which must be non-blocking."""

    def __init__(self, descriptor: int) -> None:
        self._port = descriptor
        self._epoll = select.epoll()
        edges = select.EPOLLIN | select.EPOLLOUT | select.EPOLLHUP | select.EPOLLET
        self._epoll.register(descriptor, edges)
        self._decoder = Decoder()
        self._backlog = bytearray()
        self._connected = False
        self._paused = False
        self._commands: dict[int, tuple[object, Command]] = {}  # by each of its descriptors
        self._handlers: dict[str, Callable[[Message], None]] = {
            "ping": self._ping,
            "exec": self._exec,
            "resync": self._resync,
        }

    def run(self) -> None:
        """Serve until an exception (a signal's) ends it; every running command ends with it."""
        try:
            while True:
                for descriptor, events in self._epoll.poll(self._timeout()):
                    if descriptor == self._port:
                        self._on_port(events)
                    elif descriptor in self._commands:
                        self._on_command(descriptor)
                self._kill_overdue()
                self._throttle()
        finally:
            self._abandon()
            self._epoll.close()

    # The stream

    def _on_port(self, events: int) -> None:
        if events & select.EPOLLHUP:
            self._connected = False
            self._backlog.clear()
            self._decoder.reset()
            self._abandon()
        elif not self._connected:
            self._connected = True
            self._send({"hello": {"protocol": PROTOCOL, "boot_id": _boot_id()}})
        self._flush()
        while True:
            try:
                data = os.read(self._port, _READ)
            except BlockingIOError:
                return
            if not data:  # The host's end is closed; an edge will tell when it opens.
                return
            for message in self._decoder.feed(data):
                self._serve(message)

    def _send(self, message: Message) -> None:
        self._backlog += encode(message)
        self._flush()

    def _flush(self) -> None:
        try:
            while self._backlog:
                written = os.write(self._port, self._backlog[:_READ])
                del self._backlog[:written]
        except BlockingIOError:
            pass  # The edge of room to write continues.
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO, errno.ENODEV):
                raise
            self._backlog.clear()  # Nobody is there; the hang-up's edge does the rest.

    # Requests

    def _serve(self, message: Message) -> None:
        if "op" not in message:
            return  # Not a request: an echo of our own, as a serial line may give.
        identity = message.get("id")
        operation = message["op"]
        handler = self._handlers.get(operation) if isinstance(operation, str) else None
        try:
            if handler is None:
                known = ", ".join(sorted(self._handlers))
                raise RequestError(f"unknown op {operation!r}; known are {known}")
            handler(message)
        except (RequestError, OSError) as error:
            self._send({"id": identity, "error": str(error)})

    def _ping(self, message: Message) -> None:
        with open("/proc/uptime", encoding="ascii") as file:
            uptime = float(file.read().split()[0])
        self._send(
            {
                "id": message.get("id"),
                "nonce": message.get("nonce"),
                "boot_id": _boot_id(),
                "uptime": uptime,
            }
        )

    def _resync(self, message: Message) -> None:
        seconds = message.get("time")
        if not isinstance(seconds, int | float) or isinstance(seconds, bool):
            raise RequestError(f"resync wants a number of seconds as time, got {seconds!r}")
        entropy = _base64(message.get("entropy", ""), "entropy")
        resync.set_clock(seconds)
        if entropy:
            resync.credit_entropy(entropy)
        self._send({"id": message.get("id"), "ok": True})

    def _exec(self, message: Message) -> None:
        identity = message.get("id")
        argv = message.get("argv")
        if not isinstance(argv, list) or not argv or not all(isinstance(a, str) for a in argv):
            raise RequestError(f"exec wants argv as a list of strings, got {argv!r}")
        env = message.get("env") or {}
        if not isinstance(env, dict) or not all(isinstance(v, str) for v in env.values()):
            raise RequestError(f"exec wants env as an object of strings, got {env!r}")
        stdin = message.get("stdin")
        data = None if stdin is None else _base64(stdin, "stdin")
        timeout = message.get("timeout")
        if timeout is not None and (
            not isinstance(timeout, int | float) or isinstance(timeout, bool) or timeout <= 0
        ):
            raise RequestError(f"exec wants a positive timeout in seconds or null, got {timeout!r}")
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            command = Command(argv, env, data, deadline)
        except (OSError, ValueError) as error:  # ValueError: a NUL inside an argument.
            reason = error.strerror if isinstance(error, OSError) else str(error)
            failure = f"cannot run {argv[0]}: {reason}"
            self._send({"id": identity, "exit": None, "error": failure})
            return
        entry = (identity, command)
        self._commands[command.process_fd] = entry
        self._epoll.register(command.process_fd, select.EPOLLIN)
        for descriptor in command.streams:
            self._commands[descriptor] = entry
            if not self._paused:
                self._epoll.register(descriptor, select.EPOLLIN)
        if command.input_fd is not None:
            self._commands[command.input_fd] = entry
            self._epoll.register(command.input_fd, select.EPOLLOUT)

    # Commands

    def _on_command(self, descriptor: int) -> None:
        identity, command = self._commands[descriptor]
        if descriptor == command.process_fd:
            self._finish(identity, command)
        elif descriptor == command.input_fd:
            if command.feed():
                self._forget(descriptor)
                os.close(descriptor)
                command.input_fd = None
        elif not self._forward(identity, command, descriptor):
            self._forget(descriptor)
            os.close(descriptor)
            del command.streams[descriptor]

    def _forward(self, identity: object, command: Command, descriptor: int) -> bool:
        """Send one chunk of output on; False at the stream's end."""
        data = command.read(descriptor)
        if data:
            text = binascii.b2a_base64(data, newline=False).decode("ascii")
            self._send({"id": identity, "stream": command.streams[descriptor], "data": text})
        return data != b""

    def _finish(self, identity: object, command: Command) -> None:
        """Report an ended command, after what it still left in its pipes.

        Not after their end: a process that it left in the background may hold them for ever.
        """
        status = command.reap()
        for descriptor in list(command.streams):
            while (data := command.read(descriptor)) is not None and data:
                text = binascii.b2a_base64(data, newline=False).decode("ascii")
                self._send({"id": identity, "stream": command.streams[descriptor], "data": text})
        self._drop(command)
        if command.timed_out:
            self._send({"id": identity, "exit": None, "error": "timeout"})
        else:
            self._send({"id": identity, "exit": status})

    def _drop(self, command: Command) -> None:
        for descriptor in [fd for fd, (_, owner) in self._commands.items() if owner is command]:
            self._forget(descriptor)
        command.close()

    def _forget(self, descriptor: int) -> None:
        del self._commands[descriptor]
        with contextlib.suppress(FileNotFoundError):  # Paused.
            self._epoll.unregister(descriptor)

    def _running(self) -> list[Command]:
        return [owner for fd, (_, owner) in self._commands.items() if fd == owner.process_fd]

    def _timeout(self) -> float | None:
        deadlines = [
            command.deadline
            for command in self._running()
            if command.deadline is not None and not command.timed_out
        ]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def _kill_overdue(self) -> None:
        now = time.monotonic()
        for command in self._running():
            if command.deadline is not None and now >= command.deadline and not command.timed_out:
                command.timed_out = True
                command.kill()

    def _abandon(self) -> None:
        """End every command: the peer that asked for it is gone."""
        for command in self._running():
            command.kill()
            command.reap()
            self._drop(command)

    def _throttle(self) -> None:
        """Stop reading commands while the host does not take what they wrote."""
        waiting = len(self._backlog)
        if self._paused == (waiting > (_BACKLOG_LOW if self._paused else _BACKLOG_HIGH)):
            return
        self._paused = not self._paused
        for command in self._running():
            for descriptor in command.streams:
                if self._paused:
                    self._epoll.unregister(descriptor)
                else:
                    self._epoll.register(descriptor, select.EPOLLIN)


def _base64(value: object, name: str) -> bytes:
    if not isinstance(value, str):
        raise RequestError(f"{name} is not base64 text")
    try:
        return binascii.a2b_base64(value, strict_mode=True) if value else b""
    except ValueError as error:
        raise RequestError(f"{name} is not base64: {error}") from None


def _boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()
