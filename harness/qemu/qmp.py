"""QEMU's machine protocol: qemu.qmp in one background event loop, behind a synchronous face."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Coroutine, Mapping
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path
from typing import Any, TypeVar

from qemu.qmp import EventListener, ExecuteError, QMPClient, QMPError
from qemu.qmp.message import Message

from harness.deadline import Deadline
from harness.errors import DeadlineError, QmpError
from harness.journal.journal import Journal, Source

T = TypeVar("T")


class _Loop:
    """The one event loop that serves every machine of this process."""

    _instance: _Loop | None = None
    _guard = threading.Lock()

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="qmp", daemon=True).start()

    @classmethod
    def get(cls) -> _Loop:
        with cls._guard:
            if cls._instance is None:
                cls._instance = cls()
            return cls._instance

    def run(self, work: Coroutine[Any, Any, T], deadline: Deadline, what: str) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(deadline.remaining)
        except FutureTimeoutError:
            future.cancel()
            raise DeadlineError(f"no answer to {what} within {deadline.seconds:.0f} s") from None
        except QMPError as error:
            raise QmpError(f"{what}: {error}") from error


class _Client(QMPClient):
    """A client that writes every message to a transcript: time, direction, JSON."""

    def __init__(self, name: str, transcript: Path, journal: Journal) -> None:
        super().__init__(name)
        self._journal = journal
        self._transcript = transcript.open("a", buffering=1, encoding="utf-8")
        self._begun = time.monotonic()

    def _cb_outbound(self, msg: Message) -> Message:
        self._write(">", msg)
        return msg

    def _cb_inbound(self, msg: Message) -> Message:
        self._write("<", msg)
        return msg

    def _write(self, direction: str, msg: Message) -> None:
        seconds = time.monotonic() - self._begun
        text = json.dumps(dict(msg), separators=(",", ":"))
        if not self._transcript.closed:
            try:
                self._transcript.write(f"[{seconds:10.3f}] {direction} {text}\n")
            except OSError as error:  # It would end the connection, which nobody is told.
                self._journal.broken("QMP's transcript", error)

    def close_transcript(self) -> None:
        self._transcript.close()


class Qmp:
    """One connection to one QEMU; its events go into the journal as they arrive."""

    def __init__(self, name: str, journal: Journal, transcript: Path) -> None:
        self._journal = journal
        self._loop = _Loop.get()
        self._client = _Client(name, transcript, journal)
        self._watcher: asyncio.Task[None] | None = None

    def connect(self, stream: socket.socket, deadline: Deadline) -> None:
        """Negotiate over ``stream``, which belongs to this object afterwards. Raises QmpError."""
        self._loop.run(self._connect(stream), deadline, "the QMP greeting")

    async def _connect(self, stream: socket.socket) -> None:
        # Registered before the connection exists, so that no event is missed.
        listener = EventListener()
        self._client.register_listener(listener)
        await self._client.connect(stream)
        self._watcher = asyncio.create_task(self._watch(listener))

    async def _watch(self, listener: EventListener) -> None:
        async for message in listener:
            data = message.get("data", {})
            self._journal.append(Source.QMP, "event", str(message["event"]), **_mapping(data))

    def command(self, name: str, deadline: Deadline, arguments: Mapping[str, object]) -> object:
        """Execute a command. Returns QEMU's answer.

        Raises QmpError with QEMU's own reason, DeadlineError.
        """
        wire = dict(arguments)
        begun = time.monotonic()
        answer = self._loop.run(self._execute(name, wire), deadline, f"QMP command {name}")
        seconds = round(time.monotonic() - begun, 4)
        self._journal.append(Source.QMP, "command", name, arguments=wire, seconds=seconds)
        return answer

    async def _execute(self, name: str, arguments: dict[str, Any]) -> Any:
        try:
            return await self._client.execute(name, arguments or None)
        except ExecuteError as error:
            raise QmpError(f"QEMU refused {name} {arguments}: {error}") from error

    def close(self, deadline: Deadline) -> None:
        """Disconnect, whatever state the connection is in."""
        # A killed QEMU ends its connection with whichever error came first.
        with contextlib.suppress(QmpError, DeadlineError, OSError, EOFError):
            self._loop.run(self._close(), deadline, "the QMP disconnect")
        self._client.close_transcript()

    async def _close(self) -> None:
        try:
            await self._client.disconnect()
        finally:
            if self._watcher is not None:
                self._watcher.cancel()


def _mapping(value: object) -> dict[str, Any]:
    return {str(key): item for key, item in value.items()} if isinstance(value, dict) else {}
