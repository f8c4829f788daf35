"""An operator elsewhere: a kubeconfig that works, settings that count, a bundle without secrets."""

from __future__ import annotations

import base64
import io
import json
import socket
import ssl
import subprocess
import tarfile
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.pytest_plugin.scenario import scenario
from harness.target.node import Node
from scenarios import kubectl
from scenarios.kubectl import API_SERVER
from scenarios.kubernetes import MACHINE, Cluster, begin

SETTINGS = "/etc/kubesolo/kubernetes.json"
NAME = "edge.example.com"
EDGE_KEY = base64.b64encode(b"https://portainer.example|edge.example:8000|aa:bb|7").decode()
EDGE_KEY = EDGE_KEY.rstrip("=")
PASSWORD = "swordfish-of-the-server"  # planted, to be found nowhere
IN_A_POD = "swordfish-of-a-pod"

pytestmark = pytest.mark.machine(**MACHINE)


def _ask(node: Node, kubeconfig: bytes, folder: Path, *arguments: str) -> str:
    """kubectl on this host, with this kubeconfig and nothing else."""
    file = folder / "kubeconfig"
    file.write_bytes(kubeconfig)
    done = subprocess.run(
        [kubectl.program(), f"--kubeconfig={file}", f"--cache-dir={folder}/cache", *arguments],
        capture_output=True, timeout=node.deadline(60).seconds, check=False, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def _is_named(node: Node, authority: bytes, name: str) -> bool:
    """Whether the API server shows a certificate of ``authority`` for ``name``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=authority.decode())
    host, _, port = node.address(API_SERVER).rpartition(":")
    with socket.create_connection((host, int(port)), 30) as stream:
        try:
            context.wrap_socket(stream, server_hostname=name).close()
        except ssl.SSLCertVerificationError:
            return False
    return True


@scenario()
def test_a_kubeconfig_for_elsewhere_and_the_nodes_settings(node: Node, tmp_path: Path) -> None:
    cluster = begin(node)
    default = json.loads(node.succeed(["kubeconfig"]).text)
    (entry,) = default["clusters"]
    assert entry["cluster"]["server"] == f"https://{node.own_address}:6443"
    # From here the node's address is one of the loopback; everything else is as it is printed.
    given = node.succeed(["kubeconfig", "--server", node.address(API_SERVER)])
    assert given.stderr == b""
    name = cluster.node_name
    assert _ask(node, given.stdout, tmp_path, "get", "nodes", "-o", "name") == f"node/{name}\n"
    assert "does not name" in node.succeed(["kubeconfig", "--server", NAME]).stderr.decode()
    # Not the administrator's key, which stays on the node.
    (user,) = default["users"]
    own = base64.b64decode(user["user"]["client-key-data"])
    assert own != node.get("/var/lib/kubesolo/kubernetes/pki/admin.key")
    settings = {"apiserver-extra-sans": [NAME, "192.168.7.1"], "mtu": 1400, "debug": True}
    document = {"schema": 1, "settings": {**settings, "d2k": True}}
    node.put(json.dumps(document), SETTINGS, mode=0o600)
    node.succeed("sync")
    node.reboot()
    node.wait_ready()
    authority = base64.b64decode(entry["cluster"]["certificate-authority-data"])
    named = [
        _is_named(node, authority, known) for known in (NAME, "192.168.7.1", node.own_address, name)
    ]
    assert named == [True, True, True, True]
    assert not _is_named(node, authority, "other.example.com")
    assert node.succeed(["kubeconfig", "--server", NAME]).stderr == b""
    assert json.loads(node.succeed(["kubeconfig"]).text) == default
    assert node.status().problems == [f"Kubernetes: {SETTINGS}: this image's Kubernetes has no d2k"]
    said = Cluster(node).said_in_a_pod("look", "cat /sys/class/net/eth0/mtu")
    assert said.strip() == "1400"


@scenario()
def test_a_kubeconfig_on_the_seed(
    machine_factory: Callable[..., Node],
    seed: Callable[..., Path],
    read_seed: Callable[..., str],
    tmp_path: Path,
) -> None:
    user_data = f"""\
        #cloud-config
        hostname: edge-13
        kubeconfig: to-seed
        kubesolo:
          apiserver-extra-sans: [{NAME}]
        """
    files = {"user-data": textwrap.dedent(user_data), "meta-data": "instance-id: 13\n"}
    node = machine_factory(seed=seed(files))
    node.boot()
    node.wait_console("configuration: kubeconfig on the seed disk /dev/vdb", since=0)
    given = json.loads(read_seed(node, "kubeconfig"))
    (entry,) = given["clusters"]
    assert entry["cluster"]["server"] == f"https://{node.own_address}:6443"
    authority = base64.b64decode(entry["cluster"]["certificate-authority-data"])
    assert _is_named(node, authority, NAME)
    # From here the node's address is one of the loopback.
    entry["cluster"]["server"] = f"https://{node.address(API_SERVER)}"
    kubeconfig = json.dumps(given).encode()
    assert _ask(node, kubeconfig, tmp_path, "get", "nodes", "-o", "name") == "node/edge-13\n"
    node.fail("test -e /var/lib/kubesolo/config/kubeconfig-owed")


@scenario()
def test_a_support_bundle_holds_no_secret(node: Node, tmp_path: Path) -> None:
    cluster = begin(node)
    document = {"schema": 1, "settings": {"portainer-edge-key": EDGE_KEY}}
    node.put(json.dumps(document), SETTINGS, mode=0o600)
    node.put(
        f"server=http://operator:{PASSWORD}@{node.host_address}:9/os\n", "/etc/kubesolo/update.conf"
    )
    # A service and a pod that say what they should not.
    node.succeed(f"echo 'edge key {EDGE_KEY} taken' > /dev/kmsg")
    key = node.get("/var/lib/kubesolo/kubernetes/pki/ca.key").decode()
    node.succeed("cat > /dev/kmsg", stdin=key.splitlines()[1].encode())
    cluster.kubectl("create", "secret", "generic", "s", f"--from-literal=password={IN_A_POD}")
    said = cluster.said_in_a_pod("chatty", f"echo DB_PASSWORD={IN_A_POD}; echo nothing secret")
    assert IN_A_POD in said
    found = json.loads(
        node.succeed(
            ["kubesolo-update", "support", "--output", "/tmp/b", "--json"], seconds=240
        ).text
    )
    assert found["failed"] == {}
    bundle = node.get("/tmp/b")
    assert len(bundle) < 8 * 1024 * 1024
    texts: dict[str, str] = {}
    with tarfile.open(fileobj=io.BytesIO(bundle)) as archive:
        for entry in archive:
            content = archive.extractfile(entry)
            assert content is not None
            texts[entry.name.partition("/")[2]] = content.read().decode()
    everything = "\n".join(texts.values())
    keys = node.succeed(
        "cat $(find /var/lib/kubesolo -name '*.key') | grep -v -e -----"
    ).text.split()
    (user,) = json.loads(node.succeed(["kubeconfig"]).text)["users"]
    secrets = [EDGE_KEY, PASSWORD, IN_A_POD, *keys, *user["user"].values()]
    leaked = [secret for secret in secrets if secret in everything]
    assert leaked == []
    assert "PRIVATE KEY" not in everything
    # And yet it says what somebody who helps wants to know.
    for part, text in {
        "status.json": "KubeSolo OS 0.1.0",
        "boot-environment.txt": "boot_success=True",
        "logs/boot-1.txt": "edge key [redacted] taken",
        "files/etc/kubesolo/update.conf": f"server=http://[redacted]@{node.host_address}:9/os",
        "commands/addresses.txt": node.own_address,
        "commands/partitions.txt": node.partition(4),
        "commands/mounts.txt": "/var/log",
        "kubernetes/nodes.json": '"kubeletVersion": "v1.',
        "kubernetes/pods.json": '"chatty"',
        "kubernetes/events.json": '"reason": "Started"',
        "pods/default/chatty.txt": "nothing secret",
        "README.txt": "Nothing is missing.",
    }.items():
        assert text in texts[part], (part, texts[part][:2000])
