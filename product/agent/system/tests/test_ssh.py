"""What the status says of the SSH server, and of keys that nobody uses."""

from __future__ import annotations

from pathlib import Path

import paramiko
import pytest

from product.agent.system.paths import Paths
from product.agent.system.ssh import SshServer, fingerprint, read_server

KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    for name in ("etc/kubesolo", "run/kubesolo", "usr/lib/kubesolo/services"):
        (tmp_path / name).mkdir(parents=True)
    return Paths(str(tmp_path))


def test_its_state(paths: Paths) -> None:
    assert read_server(paths) == SshServer("absent")
    Path(paths.authorized_keys).write_text(f"ssh-ed25519 {KEY} operator@desk\n")
    server = read_server(paths)
    assert server.state == "absent"
    assert server.problem is not None
    assert "this image has no SSH server" in server.problem
    Path(paths.ssh).mkdir()
    assert read_server(paths) == SshServer("starting")
    Path(paths.ssh_host_key).write_text(f"ssh-ed25519 {KEY} root@node\n")
    assert read_server(paths) == SshServer("running", f"ssh-ed25519 {KEY}", fingerprint(KEY))
    Path(paths.authorized_keys).write_text("")
    assert read_server(paths) == SshServer("off")


@pytest.mark.parametrize("text", ["", "ssh-ed25519", "ssh-ed25519 !!!", "\xff"])
def test_a_host_key_that_is_none_is_one_that_is_not_there_yet(paths: Paths, text: str) -> None:
    Path(paths.ssh).mkdir()
    Path(paths.authorized_keys).write_text("x\n")
    Path(paths.ssh_host_key).write_text(text)
    assert read_server(paths).state == "starting"


def test_fingerprints_are_those_of_openssh() -> None:
    key = paramiko.ECDSAKey.generate()
    assert fingerprint(key.get_base64()) == key.fingerprint
