"""Commands over SSH, against a server in this process: who may log in, and what comes back."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
from collections.abc import Iterator

import paramiko
import pytest
from paramiko.common import AUTH_FAILED, AUTH_SUCCESSFUL, OPEN_SUCCEEDED

from harness.commands.ssh import SshChannel, parse_host_key
from harness.deadline import Deadline
from harness.errors import ChannelError, DeadlineError, HostKeyError, LoginRefusedError
from harness.journal.journal import Journal


def deadline(seconds: float = 20.0) -> Deadline:
    return Deadline.after(seconds)


class Server(paramiko.ServerInterface):
    """Lets ``allowed`` in, and runs what it is told on this host."""

    def __init__(self, allowed: paramiko.PKey) -> None:
        self._allowed = allowed

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        known = username == "root" and key == self._allowed
        return AUTH_SUCCESSFUL if known else AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        threading.Thread(target=self._run, args=(channel, command), daemon=True).start()
        return True

    @staticmethod
    def _run(channel: paramiko.Channel, command: bytes) -> None:
        stdin = b""
        while data := channel.recv(65536):
            stdin += data
        done = subprocess.run(
            ["/bin/sh", "-c", command], input=stdin, capture_output=True, check=False
        )
        with contextlib.suppress(OSError):
            channel.sendall(done.stdout)
            channel.sendall_stderr(done.stderr)
            channel.send_exit_status(done.returncode)
        channel.close()


class World:
    """A server, the key that it takes, and one that it does not."""

    def __init__(self) -> None:
        self.host_key = paramiko.ECDSAKey.generate()
        self.key = paramiko.ECDSAKey.generate()
        self.stranger = paramiko.ECDSAKey.generate()
        self.journal = Journal("node", "x86_64")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._transports: list[paramiko.Transport] = []
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def pinned(self) -> str:
        return f"{self.host_key.get_name()} {self.host_key.get_base64()}"

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                stream, _ = self._listener.accept()
                transport = paramiko.Transport(stream)
                transport.add_server_key(self.host_key)
                with contextlib.suppress(paramiko.SSHException, EOFError):
                    transport.start_server(server=Server(self.key))
                self._transports.append(transport)

    def log_in(self, **changes: object) -> SshChannel:
        arguments: dict[str, object] = {"host_key": self.pinned, "key": self.key, **changes}
        return SshChannel(self.address, self.journal, deadline(), **arguments)  # type: ignore[arg-type]

    def close(self) -> None:
        with contextlib.suppress(OSError):
            # A thread that waits for somebody would keep it open.
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for transport in self._transports:
            transport.close()


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


def test_a_command_has_the_channels_result(world: World) -> None:
    with world.log_in() as ssh:
        script = "cat; echo oops >&2; echo $A; exit 3"
        done = ssh.exec(["sh", "-c", script], deadline(), stdin=b"in ", env={"A": "b c"})
    assert (done.exit, done.stdout, done.stderr) == (3, b"in b c\n", b"oops\n")
    assert done.text == "in b c"
    event = world.journal.last(lambda event: event.kind == "command")
    assert event is not None
    assert event.data["exit"] == 3


def test_files_go_both_ways(world: World, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("files") / "a file"
    data = bytes(range(256)) * 2000
    with world.log_in() as ssh:
        ssh.put(data, str(path), deadline(), mode=0o600)
        assert ssh.get(str(path), deadline()) == data
        with pytest.raises(ChannelError, match="No such file"):
            ssh.get("/no/such/file", deadline())
    assert path.stat().st_mode & 0o777 == 0o600


def test_another_key_and_a_password_are_refused(world: World) -> None:
    with pytest.raises(LoginRefusedError, match="refuses root"):
        world.log_in(key=world.stranger)
    with pytest.raises(LoginRefusedError, match="refuses root"):
        world.log_in(key=None, password="kubesolo")


def test_another_server_is_refused_before_anything_is_shown(world: World) -> None:
    stranger = f"{world.stranger.get_name()} {world.stranger.get_base64()}"
    with pytest.raises(HostKeyError, match="expected"):
        world.log_in(host_key=stranger)
    with pytest.raises(HostKeyError, match="no public key"):
        parse_host_key("ssh-ed25519")


def test_a_command_that_does_not_end_ends_with_the_deadline(world: World) -> None:
    with world.log_in() as ssh, pytest.raises(DeadlineError):
        ssh.exec(["sleep", "5"], deadline(0.5))


def test_no_server(world: World) -> None:
    world.close()
    with pytest.raises(ChannelError, match="no SSH"):
        world.log_in()
