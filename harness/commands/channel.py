"""The host's end of the command channel: commands in the guest, with their output and status."""

from __future__ import annotations

import base64
import os
import secrets
import shlex
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness.console.expect import type_in
from harness.deadline import Deadline
from harness.errors import ChannelError, WaitError
from harness.journal.journal import Event, Journal, Source, is_reset
from product.channel.framing import Decoder, Message, encode

# Raw bytes of a file sent in one request.
_PUT_CHUNK = 1024 * 1024

# A command's own time limit ends this long before the caller's, so that its output still arrives.
_MARGIN = 2.0
_MARGIN_SHARE = 0.1

# Bytes of each stream that a message repeats of a command without an end.
_LAST_WORDS = 4096


@dataclass(frozen=True, slots=True)
class CompletedCommand:
    """A command that ended; ``exit`` is -N after signal N. ``seconds`` are the host's."""

    argv: tuple[str, ...]
    exit: int
    stdout: bytes
    stderr: bytes
    seconds: float

    @property
    def text(self) -> str:
        """Standard output as text without its last line end."""
        return self.stdout.decode("utf-8", "replace").removesuffix("\n")

    def __str__(self) -> str:
        first = f"{shlex.join(self.argv)} exited with {self.exit}"
        return "\n".join([first, *_printed(self.stdout, self.stderr)])


@dataclass
class _Request:
    """What has arrived for one request so far."""

    what: str
    begun: float = field(default_factory=time.monotonic)
    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    reply: Message | None = None

    @property
    def printed(self) -> str:
        """The end of both streams so far, for messages; begins with a line end unless empty."""
        last = (bytes(stream[-_LAST_WORDS:]) for stream in (self.stdout, self.stderr))
        return "".join(f"\n{part}" for part in _printed(*last))


class PendingCommand:
    """A command that runs in the guest meanwhile."""

    def __init__(
        self, channel: Channel, identity: str, request: _Request, argv: tuple[str, ...], since: int
    ) -> None:
        self.argv = argv
        self._channel = channel
        self._identity = identity
        self._request = request
        self._since = since
        self._done: CompletedCommand | None = None

    def wait(self, deadline: Deadline) -> CompletedCommand:
        """Its end, as often as it is asked for.

        Raises ChannelError where it could not run, ran out of time or lost its guest, and whatever
        a wait of the journal raises, with what the command has printed; after a DeadlineError it
        can be waited for again.
        """
        if self._done is None:
            request = self._request
            try:
                self._channel.answer(self._identity, request, deadline, self._since)
            except WaitError as error:
                raise type(error)(
                    f"{error.message}{request.printed}",
                    hint=error.hint,
                    stdout=bytes(request.stdout),
                    stderr=bytes(request.stderr),
                ) from error
            self._done = self._channel.completed(request, self.argv)
        return self._done

    def give_up(self) -> None:
        """Take no more of its output, and no reply."""
        self._channel.forget(self._identity)

    def output(self) -> bytes:
        """Standard output so far."""
        return self._channel.output(self._request)


class Channel:
    """Requests over one stream, each with an identity of its own, replies in any order.

    ``feed`` takes the stream's bytes from the pump's thread; everything else is for the caller's.
    A guest that restarts says hello again, and then every request under way has failed.
    """

    def __init__(self, stream: socket.socket, journal: Journal) -> None:
        self._stream = stream
        self._journal = journal
        self._decoder = Decoder()
        self._lock = threading.Lock()
        self._send_lock = threading.Lock()
        self._requests: dict[str, _Request] = {}
        self._dropped = 0

    def feed(self, data: bytes) -> None:
        """Take bytes from the guest."""
        for message in self._decoder.feed(data):
            self._receive(message)
        if self._decoder.dropped > self._dropped:
            self._dropped = self._decoder.dropped
            self._journal.append(Source.CHANNEL, "dropped", f"{self._dropped} damaged frames")

    def _receive(self, message: Message) -> None:
        if "hello" in message:
            with self._lock:
                for request in self._requests.values():
                    request.reply = {"error": "the guest's end was restarted"}
                self._requests.clear()
            hello = message["hello"]
            data = hello if isinstance(hello, dict) else {}
            self._journal.append(Source.CHANNEL, "hello", str(data.get("boot_id", "")), **data)
            return
        identity = str(message.get("id"))
        with self._lock:
            request_ = self._requests.get(identity)
            if request_ is None:
                return  # A reply to a request that was given up.
            if "stream" in message:
                output = request_.stdout if message["stream"] == "stdout" else request_.stderr
                output += base64.b64decode(message["data"])
                kind = "output"
            else:
                request_.reply = message
                del self._requests[identity]
                kind = "reply"
        if kind == "reply":
            self._journal.append(Source.CHANNEL, "reply", request_.what, id=identity)
        else:
            self._journal.append(Source.CHANNEL, "output", request_.what, id=identity)

    @property
    def up(self) -> bool:
        """Whether this boot's guest has opened the channel.

        QEMU would keep a request for a guest that is not there, and hand it to the next boot.
        """
        event = self._journal.last(_changes_guest)
        return event is not None and (event.source is Source.CHANNEL or event.kind == "restored")

    def wait_up(self, deadline: Deadline) -> None:
        """Return once this boot's guest has opened the channel."""
        last = self._journal.last(_changes_guest)
        if last is not None and not self.up:
            self._journal.wait(
                _opens_channel, "the guest's channel", deadline, since=last.index + 1
            )
        elif last is None:
            self._journal.wait(_opens_channel, "the guest's channel", deadline, since=0)

    # Requests

    def ping(self, deadline: Deadline) -> Message:
        """Prove that the guest answers now: it must echo a fresh nonce. Returns its reply."""
        nonce = secrets.token_hex(8)
        reply = self._call({"op": "ping", "nonce": nonce}, "ping", deadline)
        if reply.get("nonce") != nonce:
            raise ChannelError(f"the guest echoed {reply.get('nonce')!r}, sent was {nonce!r}")
        return reply

    def resync(self, deadline: Deadline) -> None:
        """Set the guest's clock to the host's and give it entropy of its own."""
        entropy = base64.b64encode(os.urandom(64)).decode()
        self._call({"op": "resync", "time": time.time(), "entropy": entropy}, "resync", deadline)

    def start(
        self,
        argv: Sequence[str],
        *,
        limit: float | None,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
    ) -> PendingCommand:
        """Run a command in the guest without waiting; ``limit`` is in seconds of the guest."""
        command = tuple(argv)
        message: Message = {"op": "exec", "argv": list(command), "timeout": limit}
        if stdin is not None:
            message["stdin"] = base64.b64encode(stdin).decode()
        if env:
            message["env"] = dict(env)
        since = self._journal.cursor
        identity, request = self._send(message, shlex.join(command))
        return PendingCommand(self, identity, request, command, since)

    def exec(
        self,
        argv: Sequence[str],
        deadline: Deadline,
        *,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
    ) -> CompletedCommand:
        """Run a command in the guest to its end, whatever its status."""
        left = deadline.remaining
        limit = max(left - min(_MARGIN, left * _MARGIN_SHARE), 0.1)
        pending = self.start(argv, limit=limit, stdin=stdin, env=env)
        try:
            return pending.wait(deadline)
        finally:
            pending.give_up()

    def put(self, data: bytes, path: str, deadline: Deadline, *, mode: int = 0o644) -> None:
        """Write a file in the guest; it appears whole, under its name, when it is complete."""
        partial = f"{path}.part"
        for start in range(0, max(len(data), 1), _PUT_CHUNK):
            write = ">" if start == 0 else ">>"
            piece = data[start : start + _PUT_CHUNK]
            self._shell(f'cat {write} "$1"', deadline, partial, stdin=piece)
        self._shell(f'chmod {mode:o} "$1" && mv "$1" "$2"', deadline, partial, path)

    def get(self, path: str, deadline: Deadline) -> bytes:
        """The content of a file in the guest."""
        return self._shell('cat "$1"', deadline, path).stdout

    def _shell(
        self, script: str, deadline: Deadline, *arguments: str, stdin: bytes | None = None
    ) -> CompletedCommand:
        argv = ["/bin/sh", "-c", script, "sh", *arguments]
        done = self.exec(argv, deadline, stdin=stdin)
        if done.exit != 0:
            raise ChannelError(str(done))
        return done

    # Replies

    def completed(self, request: _Request, argv: tuple[str, ...]) -> CompletedCommand:
        """What a request that was answered came to. Raises ChannelError where it has no status."""
        seconds = time.monotonic() - request.begun
        reply = request.reply or {}
        status = reply.get("exit")
        text = shlex.join(argv)
        if not isinstance(status, int):
            reason = reply.get("error", "a reply without a status")
            raise ChannelError(f"{text}: {reason}{request.printed}")
        self._journal.append(
            Source.CHANNEL, "command", text, exit=status, seconds=round(seconds, 4)
        )
        return CompletedCommand(argv, status, bytes(request.stdout), bytes(request.stderr), seconds)

    def output(self, request: _Request) -> bytes:
        """Standard output of a request so far."""
        with self._lock:
            return bytes(request.stdout)

    def forget(self, identity: str) -> None:
        """Drop whatever arrives for this request from now on."""
        with self._lock:
            self._requests.pop(identity, None)

    def _call(self, message: Message, what: str, deadline: Deadline) -> Message:
        since = self._journal.cursor
        identity, request = self._send(message, what)
        try:
            self.answer(identity, request, deadline, since)
        finally:
            self.forget(identity)
        reply = request.reply or {}
        if "error" in reply:
            raise ChannelError(f"{what}: {reply['error']}")
        return reply

    def _send(self, message: Message, what: str) -> tuple[str, _Request]:
        if not self.up:
            raise ChannelError(
                f"{what}: the guest has not opened the channel since its last start",
                hint="wait until it is ready first",
            )
        identity = secrets.token_hex(6)
        request = _Request(what)
        with self._lock:
            self._requests[identity] = request
        self._journal.append(Source.CHANNEL, "request", what, id=identity)
        frame = encode({"id": identity, **message})
        try:
            with self._send_lock:
                type_in(self._stream, frame)
        except OSError as error:
            self.forget(identity)
            raise ChannelError(f"{what}: the channel takes no request: {error}") from error
        return identity, request

    def answer(self, identity: str, request: _Request, deadline: Deadline, since: int) -> None:
        """Return once ``request`` has its reply. Raises what a wait of the journal raises."""

        def answered(event: Event) -> bool:
            return event.source is Source.CHANNEL and (
                (event.kind == "reply" and event.data.get("id") == identity)
                or event.kind == "hello"
            )

        position = since
        while request.reply is None:
            event = self._journal.wait(
                answered, f"the reply to {request.what!r}", deadline, since=position
            )
            position = event.index + 1
        self._journal.check(request.what)


def _printed(stdout: bytes, stderr: bytes) -> list[str]:
    """A part for each stream that has anything."""
    named = (("stdout", stdout), ("stderr", stderr))
    texts = ((name, data.decode("utf-8", "replace").rstrip()) for name, data in named)
    return [f"{name}:\n{text}" for name, text in texts if text]


def _opens_channel(event: Event) -> bool:
    return event.source is Source.CHANNEL and event.kind == "hello"


def _changes_guest(event: Event) -> bool:
    """Whether another guest than before is behind the channel after this event."""
    return (
        _opens_channel(event)
        or (event.source is Source.HARNESS and event.kind in ("start", "exit", "restored"))
        or is_reset(event)
    )
