"""Commands in a node over SSH, as an operator gives them; the host key is pinned.

It needs an image with the extension ``ssh``. Results are those of the command channel.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import shlex
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

import paramiko

from harness.commands.channel import CompletedCommand
from harness.deadline import Deadline
from harness.errors import ChannelError, HostKeyError, LoginRefusedError
from harness.journal.journal import Event, Journal, Source

_CHUNK = 64 * 1024
# Seconds in which a server that stands opens one more session.
_OPEN = 60.0
_numbers = itertools.count()


def parse_host_key(text: str) -> paramiko.PKey:
    """A public key as OpenSSH writes it, ``ssh-ed25519 AAAA...``. Raises HostKeyError."""
    try:
        kind, data = text.split()[:2]
        entry = paramiko.hostkeys.HostKeyEntry.from_line(f"node {kind} {data}")
    except (ValueError, paramiko.SSHException, paramiko.hostkeys.InvalidHostKey):
        entry = None
    if entry is None or entry.key is None:
        raise HostKeyError(f"{text!r} is no public key as OpenSSH writes it")
    return entry.key


def fingerprint(key: paramiko.PKey) -> str:
    """As OpenSSH prints it, ``SHA256:...``."""
    digest = hashlib.sha256(key.asbytes()).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


class SshChannel:
    """One connection, as root. Use as a context manager: leaving it ends the connection."""

    def __init__(
        self,
        address: str,
        journal: Journal,
        deadline: Deadline,
        *,
        host_key: str,
        key: paramiko.PKey | None = None,
        password: str | None = None,
        user: str = "root",
    ) -> None:
        """Connect to ``address``, ``host:port``, and log in by ``key`` or by ``password``.

        ``host_key`` is the server's public key, or its fingerprint, ``SHA256:...``. Raises
        HostKeyError for a server with another one, LoginRefusedError,
        ChannelError where there is no server.
        """
        self._address = address
        self._journal = journal
        pinned = host_key if host_key.startswith("SHA256:") else parse_host_key(host_key)
        host, _, port = address.rpartition(":")
        try:
            stream = socket.create_connection((host, int(port)), max(deadline.remaining, 0.1))
        except OSError as error:
            raise ChannelError(f"no SSH server answers at {address}: {error}") from error
        self._transport = paramiko.Transport(stream)
        for name in ("banner_timeout", "auth_timeout", "handshake_timeout"):
            setattr(self._transport, name, max(deadline.remaining, 0.1))
        try:
            self._log_in(pinned, user, key, password, deadline)
        except BaseException:
            self.close()
            raise
        journal.append(Source.HARNESS, "note", f"logged in as {user} at {address}")

    def _log_in(
        self,
        pinned: paramiko.PKey | str,
        user: str,
        key: paramiko.PKey | None,
        password: str | None,
        deadline: Deadline,
    ) -> None:
        transport = self._transport
        try:
            transport.start_client(timeout=max(deadline.remaining, 0.1))
            found = transport.get_remote_server_key()
            own = fingerprint(found) if isinstance(pinned, str) else found
            if own != pinned:
                wanted = pinned if isinstance(pinned, str) else pinned.get_base64()
                shown = own if isinstance(own, str) else own.get_base64()
                raise HostKeyError(
                    f"the server at {self._address} has host key {shown}, expected {wanted}"
                )
            if key is not None:
                transport.auth_publickey(user, key)
            elif password is not None:
                transport.auth_password(user, password, fallback=False)
            else:
                transport.auth_none(user)
        except paramiko.AuthenticationException as error:
            raise LoginRefusedError(
                f"the server at {self._address} refuses {user}: {error}"
            ) from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise ChannelError(f"no SSH session with {self._address}: {error}") from error

    def start(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
    ) -> PendingSsh:
        """Run a command meanwhile. Raises ChannelError where the connection takes none."""
        command = tuple(argv)
        settings = [f"{name}={shlex.quote(value)}" for name, value in (env or {}).items()]
        text = shlex.join(command)
        since = self._journal.cursor
        try:
            session = self._transport.open_session(timeout=_OPEN)
            session.exec_command(" ".join([*settings, text]))
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise ChannelError(f"{text}: {error}") from error
        return PendingSsh(self._journal, session, command, text, stdin or b"", since)

    def exec(
        self,
        argv: Sequence[str],
        deadline: Deadline,
        *,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
    ) -> CompletedCommand:
        """Run a command to its end, whatever its status. Raises what a wait of the journal raises,
        ChannelError where the connection ends first."""
        pending = self.start(argv, stdin=stdin, env=env)
        try:
            return pending.wait(deadline)
        finally:
            pending.give_up()

    @property
    def alive(self) -> bool:
        """Whether the connection stands, so far as this end knows."""
        return bool(self._transport.is_active())

    def put(self, data: bytes, path: str, deadline: Deadline, *, mode: int = 0o644) -> None:
        """Write a file; it appears whole, under its name, when it is complete."""
        script = f'cat > "$1.part" && chmod {mode:o} "$1.part" && mv "$1.part" "$1"'
        self._shell(script, path, deadline, stdin=data)

    def get(self, path: str, deadline: Deadline) -> bytes:
        """The content of a file."""
        return self._shell('cat "$1"', path, deadline).stdout

    def _shell(
        self, script: str, argument: str, deadline: Deadline, *, stdin: bytes | None = None
    ) -> CompletedCommand:
        done = self.exec(["/bin/sh", "-c", script, "sh", argument], deadline, stdin=stdin)
        if done.exit != 0:
            raise ChannelError(str(done))
        return done

    def close(self) -> None:
        """End the connection."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class PendingSsh:
    """A command that runs over SSH meanwhile."""

    def __init__(
        self,
        journal: Journal,
        session: paramiko.Channel,
        argv: tuple[str, ...],
        text: str,
        stdin: bytes,
        since: int,
    ) -> None:
        self.argv = argv
        self._journal = journal
        self._session = session
        self._text = text
        self._stdin = stdin
        self._since = since
        self._number = next(_numbers)
        self._begun = time.monotonic()
        self._streams = bytearray(), bytearray()
        self._collector = threading.Thread(target=self._collect, name="ssh", daemon=True)
        self._collector.start()

    def _collect(self) -> None:
        session = self._session
        readers = [
            threading.Thread(target=_drain, args=(read, stream), daemon=True)
            for read, stream in zip((session.recv, session.recv_stderr), self._streams, strict=True)
        ]
        for reader in readers:
            reader.start()
        try:
            session.sendall(self._stdin)
            session.shutdown_write()
        except OSError:
            # It ended without reading.
            pass
        for reader in readers:
            reader.join()
        status = session.recv_exit_status()
        seconds = round(time.monotonic() - self._begun, 4)
        self._journal.append(
            Source.HARNESS, "command", self._text, exit=status, seconds=seconds,
            number=self._number, over="ssh",
        )  # fmt: skip

    def wait(self, deadline: Deadline) -> CompletedCommand:
        """Its end, as often as it is asked for. Raises as SshChannel.exec."""

        def ended(event: Event) -> bool:
            return (
                event.kind == "command"
                and event.data.get("over") == "ssh"
                and event.data.get("number") == self._number
            )

        event = self._journal.wait(ended, self._text, deadline, since=self._since)
        self._collector.join()
        status = event.data["exit"]
        if status == -1:
            raise ChannelError(f"{self._text}: the connection ended without an exit status")
        stdout, stderr = (bytes(stream) for stream in self._streams)
        return CompletedCommand(self.argv, status, stdout, stderr, event.data["seconds"])

    def give_up(self) -> None:
        """Take no more of its output, and no status."""
        self._session.close()
        self._collector.join()

    def output(self) -> bytes:
        """Standard output so far."""
        return bytes(self._streams[0])


def _drain(read: object, into: bytearray) -> None:
    """Take everything until the other side closes."""
    assert callable(read)
    while data := read(_CHUNK):
        into += data
