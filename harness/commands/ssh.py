"""Commands in a node over SSH, as an operator gives them; the host key is pinned.

It needs an image with the extension ``ssh``. Results are those of the command channel.
"""

from __future__ import annotations

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

        Raises HostKeyError for a server with another key than ``host_key``, LoginRefusedError,
        ChannelError where there is no server.
        """
        self._address = address
        self._journal = journal
        pinned = parse_host_key(host_key)
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
        pinned: paramiko.PKey,
        user: str,
        key: paramiko.PKey | None,
        password: str | None,
        deadline: Deadline,
    ) -> None:
        transport = self._transport
        try:
            transport.start_client(timeout=max(deadline.remaining, 0.1))
            found = transport.get_remote_server_key()
            if found != pinned:
                raise HostKeyError(
                    f"the server at {self._address} has host key {found.get_base64()}, "
                    f"expected {pinned.get_base64()}"
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
        command = tuple(argv)
        settings = [f"{name}={shlex.quote(value)}" for name, value in (env or {}).items()]
        text = " ".join([*settings, shlex.join(command)])
        number, since, begun = next(_numbers), self._journal.cursor, time.monotonic()
        try:
            session = self._transport.open_session(timeout=max(deadline.remaining, 0.1))
            session.exec_command(text)
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise ChannelError(f"{text}: {error}") from error
        streams = [bytearray(), bytearray()]

        def collect() -> None:
            readers = [
                threading.Thread(target=_drain, args=(read, stream), daemon=True)
                for read, stream in zip((session.recv, session.recv_stderr), streams, strict=True)
            ]
            for reader in readers:
                reader.start()
            try:
                session.sendall(stdin or b"")
                session.shutdown_write()
            except OSError:
                # It ended without reading.
                pass
            for reader in readers:
                reader.join()
            status = session.recv_exit_status()
            seconds = round(time.monotonic() - begun, 4)
            self._journal.append(
                Source.HARNESS, "command", text, exit=status, seconds=seconds, number=number,
                over="ssh",
            )  # fmt: skip

        def ended(event: Event) -> bool:
            return (
                event.kind == "command"
                and event.data.get("over") == "ssh"
                and event.data.get("number") == number
            )

        collector = threading.Thread(target=collect, name="ssh", daemon=True)
        collector.start()
        try:
            event = self._journal.wait(ended, text, deadline, since=since)
        finally:
            session.close()
            collector.join()
        status = event.data["exit"]
        if status == -1:
            raise ChannelError(f"{text}: the connection ended without an exit status")
        stdout, stderr = (bytes(stream) for stream in streams)
        return CompletedCommand(command, status, stdout, stderr, time.monotonic() - begun)

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


def _drain(read: object, into: bytearray) -> None:
    """Take everything until the other side closes."""
    assert callable(read)
    while data := read(_CHUNK):
        into += data
