"""Commands on a board over SSH, as a target's ``channel``: one connection a boot."""

from __future__ import annotations

import base64
import contextlib
import os
import shlex
import time
from collections.abc import Callable, Mapping, Sequence

import paramiko

from harness.commands.channel import CompletedCommand
from harness.commands.ssh import PendingSsh, SshChannel
from harness.deadline import Deadline
from harness.errors import ChannelError, HostKeyError, LoginRefusedError
from harness.journal.boots import begins
from harness.journal.journal import Journal, Source, is_line
from harness.lab.board import Service
from harness.profile import facts
from product.channel.framing import Message

# An SSH server's own is shorter.
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Seconds between two attempts to log in, and for one of them.
_PAUSE = 0.5
_ATTEMPT = 20.0


class SshCommands:
    """Log in by ``key`` once a boot has a server; the host key is what the console says.

    ``host_key`` is the expression of a profile whose group ``fingerprint`` the console's line has;
    None takes the key of the first server, and that one alone from then on.
    """

    def __init__(
        self,
        journal: Journal,
        service: Callable[[], Service],
        key: paramiko.PKey,
        user: str,
        host_key: str | None,
    ) -> None:
        self._journal = journal
        self._service = service
        self._key = key
        self._user = user
        self._expression = host_key
        self._pinned: str | None = None
        self._channel: SshChannel | None = None
        self._since = -1  # the journal's index of the boot that the connection is of

    def _boot(self) -> int:
        event = self._journal.last(begins)
        return -1 if event is None else event.index

    @property
    def up(self) -> bool:
        """Whether there is a connection, of this boot."""
        channel = self._channel
        return channel is not None and channel.alive and self._since == self._boot()

    def disconnect(self) -> None:
        """Forget the connection."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def wait_up(self, deadline: Deadline) -> None:
        """Return once this boot's server lets the harness in. Raises what a wait of the journal
        raises; its message ends with why the last attempt failed."""
        if self.up:
            return
        self.disconnect()
        reason = "no attempt was made"
        boot = self._boot()
        while not self.up:
            self._journal.check("a login over SSH")
            try:
                self._connect(min(_ATTEMPT, max(deadline.remaining, 0.1)), boot)
            except (HostKeyError, LoginRefusedError):
                raise
            except ChannelError as error:
                reason = error.message
            if self.up:
                return
            if deadline.passed:
                raise ChannelError(
                    f"nobody could log in over SSH within {deadline.seconds:.0f} s: {reason}",
                    hint="does the image have an SSH server, and the harness's key?",
                )
            time.sleep(_PAUSE)
            boot = self._boot()

    def _connect(self, seconds: float, boot: int) -> None:
        pinned = self._fingerprint()
        if pinned is None:
            raise ChannelError("the console has not said the server's host key")
        host, port = self._service()
        # One attempt hears no line of the console: the loop does.
        self._channel = SshChannel(
            f"{host}:{port}", self._journal, Deadline.after(seconds),
            host_key=pinned, key=self._key, user=self._user,
        )  # fmt: skip
        self._since = boot
        self._pinned = pinned

    def _fingerprint(self) -> str | None:
        """The latest that the console said, or what was learned before."""
        if self._expression is None:
            if self._pinned is None:
                self._pinned = self._learn()
            return self._pinned
        found = self._pinned
        for event in self._journal.events():
            if is_line(event) and (said := facts(self._expression, event.text)):
                found = said["fingerprint"]
        return found

    def _learn(self) -> str:
        from harness.commands.ssh import fingerprint

        host, port = self._service()
        try:
            with contextlib.closing(paramiko.Transport((host, port))) as transport:
                transport.start_client(timeout=_ATTEMPT)
                found = fingerprint(transport.get_remote_server_key())
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise ChannelError(f"no SSH server answers at {host}:{port}: {error}") from error
        self._journal.append(Source.HARNESS, "note", f"the host key at first sight is {found}")
        return found

    # Requests

    @property
    def _open(self) -> SshChannel:
        if not self.up:
            raise ChannelError(
                "the harness has not opened a connection since the node's last start",
                hint="wait until it is ready first",
            )
        assert self._channel is not None
        return self._channel

    def ping(self, deadline: Deadline) -> Message:
        """Prove that the node answers now: it must echo a fresh nonce."""
        nonce = base64.b16encode(os.urandom(8)).decode()
        said = self.exec(["echo", nonce], deadline).text
        if said != nonce:
            raise ChannelError(f"the node echoed {said!r}, sent was {nonce!r}")
        return {"nonce": nonce}

    def resync(self, deadline: Deadline) -> None:
        """Set the node's clock to the host's."""
        self.exec(["date", "-u", "-s", f"@{int(time.time())}"], deadline)

    def start(
        self,
        argv: Sequence[str],
        *,
        limit: float | None,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
    ) -> PendingSsh:
        """Run a command meanwhile. An SSH server ends none: ``limit`` is the caller's to keep."""
        return self._open.start(argv, stdin=stdin, env=_environment(env))

    def exec(
        self,
        argv: Sequence[str],
        deadline: Deadline,
        *,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
    ) -> CompletedCommand:
        """Run a command to its end, whatever its status."""
        return self._open.exec(argv, deadline, stdin=stdin, env=_environment(env))

    def put(self, data: bytes, path: str, deadline: Deadline, *, mode: int = 0o644) -> None:
        """Write a file; it appears whole."""
        self._open.put(data, path, deadline, mode=mode)

    def get(self, path: str, deadline: Deadline) -> bytes:
        """Read a file."""
        return self._open.get(path, deadline)

    def __repr__(self) -> str:
        return f"<SshCommands {shlex.quote(self._user)} {'up' if self.up else 'down'}>"


def _environment(env: Mapping[str, str] | None) -> dict[str, str]:
    return {"PATH": _PATH, **(env or {})}
