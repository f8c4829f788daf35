"""The node is a Kubernetes node, and what runs on it works."""

from __future__ import annotations

import pytest

from harness.node import Node
from harness.scenario import scenario
from scenarios.kubernetes import MACHINE, STORE, begin

# The status that somebody without a certificate gets.
ASK = """
import ssl, sys, urllib.error, urllib.request
anyone = ssl._create_unverified_context()
try:
    print(urllib.request.urlopen(sys.argv[1], timeout=20, context=anyone).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""

pytestmark = pytest.mark.machine(**MACHINE)


@scenario()
def test_the_node_is_ready(node: Node) -> None:
    cluster = begin(node)
    assert cluster.is_ready
    checks = {check["name"]: check for check in node.status().last_boot_check.health}
    for name in ("containerd", "api_server", "node_ready", "kube_system"):
        assert checks[name]["result"] == "pass", checks[name]
    for pod in cluster.get("pods", "-n", "kube-system")["items"]:
        assert pod["status"]["phase"] in ("Running", "Succeeded"), pod
    assert node.status().problems == []


@scenario()
def test_the_administrators_access_stays_on_the_node(node: Node) -> None:
    cluster = begin(node)
    path = cluster.payload["kubeconfig"]
    assert node.succeed(f"stat -c '%a %u' {path}").text == "600 0"
    # Every private key and kubeconfig, wherever it lies.
    readable = node.succeed(
        "find /var/lib/kubesolo -type f -perm /077 | "
        "xargs -r grep -lE 'PRIVATE KEY|client-key-data' || true"
    ).text
    assert readable == ""
    # Nobody without a certificate learns anything, and nothing speaks plain HTTP.
    assert node.succeed(["python3", "-c", ASK, "https://127.0.0.1:6443/api/v1/secrets"]).text in (
        "401",
        "403",
    )
    assert (
        node.succeed(["python3", "-c", ASK, "http://127.0.0.1:6443/api/v1/secrets"]).text == "400"
    )
    node.fail(["python3", "-c", ASK, f"http://127.0.0.1:80{path}"])


@scenario()
def test_a_workload_is_served_through_its_service(node: Node) -> None:
    cluster = begin(node)
    cluster.create("nginx")
    cluster.rolled_out("web")
    address = cluster.web
    page = cluster.page(address)
    assert "nginx" in page.lower() or "kubesolo" in page.lower(), page
    assert cluster.page("10.0.2.15:30080") == page
    # From a pod, too.
    seen = cluster.kubectl(
        "run", "look", "--image=kubesolo.io/busybox:1", "--image-pull-policy=Never",
        "--restart=Never", "--rm", "-i", "--quiet", "--command", "--",
        "wget", "-q", "-T", "10", "-O", "-", f"http://{address}/", seconds=120,
    ).text  # fmt: skip
    assert page in seen


@scenario()
def test_local_storage_survives_a_reboot(node: Node) -> None:
    cluster = begin(node)
    cluster.create("store")
    cluster.wait("pod/store", "condition=Ready")
    assert node.succeed(f"cat {STORE}").text == "started"
    node.reboot()
    node.wait_ready()
    cluster.store_started(2)
    assert node.succeed(f"cat {STORE}").text.split() == ["started", "started"]
    cluster.wait("pod/store", "condition=Ready")
