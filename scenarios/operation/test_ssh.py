"""SSH is there where the image has a server and the configuration says who may log in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import paramiko
import pytest

from harness.errors import ChannelError, HostKeyError, LoginRefusedError
from harness.pytest_plugin.scenario import scenario
from harness.target.node import Node, State
from product.image.cache import Cache
from product.image.tools import IMAGES, HostTools
from scenarios.steps import read_data

if TYPE_CHECKING:
    from conftest import Images

KEYS = "/etc/kubesolo/authorized_keys"


@pytest.fixture(scope="session")
def images(cache: Cache, host_tools: HostTools) -> Images:
    """The image with the extension."""
    from conftest import Images

    return Images(cache, host_tools, recipe=IMAGES / "appliance-ssh.toml")


def _public(key: paramiko.PKey) -> str:
    return f"{key.get_name()} {key.get_base64()}"


def _allow(node: Node, key: paramiko.PKey) -> str:
    """Name ``key`` as the operator's and reboot; the fingerprint on the console."""
    node.put(f"# who may log in\n{_public(key)} operator@desk\n", KEYS, mode=0o600)
    node.succeed("sync")
    since = node.journal.cursor
    node.reboot()
    (fingerprint,) = node.wait_console(r"kubesolo: ssh: host key (SHA256:\S+)$", since=since)
    node.wait_ready()
    assert fingerprint is not None
    return fingerprint


@scenario()
def test_an_operators_key_opens_the_node_and_nothing_else_does(node: Node) -> None:
    node.at(State.READY)
    # Nobody is named: nobody is listened to.
    assert node.status().ssh.state == "off"
    assert ":0016 " not in node.succeed("cat /proc/net/tcp /proc/net/tcp6").text
    key = paramiko.ECDSAKey.generate()
    stranger = paramiko.ECDSAKey.generate()
    fingerprint = _allow(node, key)
    server = node.status().ssh
    assert (server.state, server.fingerprint) == ("running", fingerprint)
    host_key = server.host_key
    with node.ssh(host_key=host_key, key=key) as ssh:
        deadline = node.deadline(60)
        done = ssh.exec(["sh", "-c", "id -u; cat; exit 3"], deadline, stdin=b"typed")
        assert (done.exit, done.text) == (3, "0\ntyped")
        ssh.put(b"written over ssh", "/var/lib/kubesolo/proof", deadline)
        assert read_data(node) == "written over ssh"
        said = ssh.exec(["kubesolo-update", "status"], deadline)
        assert f"ssh: running, host key {fingerprint}" in said.text
        # No Kubernetes, no kubeconfig: one clear error.
        done = ssh.exec(["kubeconfig"], deadline)
        assert done.exit == 1
        assert b"this image carries no Kubernetes" in done.stderr
    with pytest.raises(LoginRefusedError):
        node.ssh(host_key=host_key, key=stranger)
    for password in ("", "root", "kubesolo"):
        with pytest.raises(LoginRefusedError):
            node.ssh(host_key=host_key, password=password)
    with pytest.raises(HostKeyError):
        node.ssh(host_key=_public(stranger), key=key)
    assert (
        "Pubkey auth succeeded for 'root'"
        in node.succeed("kubesolo-update logs --service ssh").text
    )
    # The node keeps its host key, also over a power cut.
    node.power_cut()
    node.boot()
    assert node.status().ssh.host_key == host_key
    with node.ssh(host_key=host_key, key=key) as ssh:
        assert ssh.exec(["true"], node.deadline(60)).exit == 0
    # Whoever is named no longer has no way in.
    node.succeed(f"rm {KEYS} && sync")
    node.reboot()
    node.wait_ready()
    with pytest.raises(ChannelError):
        node.ssh(host_key=host_key, key=key)


@scenario()
def test_a_damaged_host_key_is_made_anew_and_said(node: Node) -> None:
    node.at(State.READY)
    key = paramiko.ECDSAKey.generate()
    first = _allow(node, key)
    node.succeed("head -c 20 /dev/zero > /var/lib/kubesolo/ssh/host_ed25519")
    second = _allow(node, key)
    assert second != first
    status = node.status()
    assert status.problems == ["ssh: the node's host key was damaged: a new one was made"]
    with node.ssh(host_key=status.ssh.host_key, key=key) as ssh:
        assert ssh.exec(["true"], node.deadline(60)).exit == 0
