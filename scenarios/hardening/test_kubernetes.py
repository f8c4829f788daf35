"""Secrets on the disk, strangers on the network, pods that reach for the host, and what is kept
of all that."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from harness.errors import CommandError
from harness.pytest_plugin.scenario import scenario
from harness.target.node import Node
from scenarios.hardening.listening import DOCUMENT, compare, documented, look
from scenarios.hardening.node import ANY_POD
from scenarios.k8s.conftest import images, kubectl_program  # noqa: F401
from scenarios.kubectl import API_SERVER
from scenarios.kubernetes import JUDGED, MACHINE, Cluster, begin

SETTINGS = "/etc/kubesolo/kubernetes.json"
DATASTORE = "/var/lib/kubesolo/kubernetes/etcd"
AUDIT = "/var/lib/kubesolo/kubernetes/audit"
# Planted, to be found nowhere but where they belong.
IN_A_SECRET, IN_A_CONFIGMAP = "swordfish-in-a-secret", "swordfish-in-a-configmap"

# The status that somebody without any credentials gets, or the error's name; a line for each
# address.
ASK = """
import ssl, sys, urllib.error, urllib.request
anyone = ssl._create_unverified_context()
for address in sys.argv[1:]:
    try:
        print(urllib.request.urlopen(address, timeout=30, context=anyone).status)
    except urllib.error.HTTPError as error:
        print(error.code)
    except OSError as error:
        print(type(getattr(error, "reason", error)).__name__)
"""
OF_THE_API_SERVER = ("/", "/api", "/livez", "/readyz", "/metrics", "/version", "/debug/pprof/")
OF_THE_KUBELET = ("/pods", "/metrics", "/healthz", "/configz", "/debug/pprof/", "/stats/")
# Whether a server takes a connection of TLS 1.1, of 1.2 with a suite without authenticated
# encryption, and of 1.2 with one that has it.
OFFER = """
import socket, ssl, sys
host, port = sys.argv[1].split(":")
for version, suites in (
    (ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0"),
    (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0"),
    (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-GCM-SHA256"),
):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    context.set_ciphers(suites)
    with socket.create_connection((host, int(port)), 30) as stream:
        try:
            context.wrap_socket(stream).close()
            print("taken")
        except ssl.SSLError:
            print("refused")
"""

pytestmark = pytest.mark.machine(**MACHINE)


def tell(node: Node, **settings: object) -> None:
    """Give the node's Kubernetes these settings, and return when it is Ready with them."""
    named = {name.replace("_", "-"): value for name, value in settings.items()}
    node.put(json.dumps({"schema": 1, "settings": named}), SETTINGS, mode=0o600)
    since = node.journal.cursor
    node.succeed("sv -w 60 restart /run/service/kubernetes", seconds=90)
    node.wait_console("kubesolo: kubernetes ready", seconds=JUDGED, since=since)


def holds(node: Node, text: str) -> bool:
    """Whether any file of the datastore does, as bytes."""
    return node.succeed(f"grep -rlF {text} {DATASTORE} || true").text != ""


@scenario()
def test_a_secret_is_not_found_in_the_datastore(node: Node) -> None:
    cluster = begin(node)
    cluster.kubectl("create", "secret", "generic", "s", f"--from-literal=password={IN_A_SECRET}")
    cluster.kubectl("create", "configmap", "c", f"--from-literal=text={IN_A_CONFIGMAP}")
    # The search finds what lies there as it is.
    assert holds(node, IN_A_CONFIGMAP)
    assert not holds(node, IN_A_SECRET)
    assert holds(node, "k8s:enc:secretbox:v1:key-1:")
    since = node.journal.cursor
    node.succeed(["kubesolo-node", "rotate-secrets-key"], seconds=90)
    node.wait_console(
        "Secrets in the datastore are encrypted with key-2", seconds=JUDGED, since=since
    )
    assert holds(node, "k8s:enc:secretbox:v1:key-2:")
    assert not holds(node, IN_A_SECRET)
    data = cluster.get("secret", "s")["data"]
    assert data == {"password": "c3dvcmRmaXNoLWluLWEtc2VjcmV0"}
    assert node.status().problems == []
    # Turned off, it is found.
    tell(node, secrets_encryption=False)
    node.wait_console("Secrets in the datastore are not encrypted", seconds=JUDGED, since=since)
    assert holds(node, IN_A_SECRET)
    assert cluster.get("secret", "s")["data"] == data


@scenario()
def test_nobody_learns_anything_without_credentials(node: Node) -> None:
    cluster = begin(node)
    api = [f"https://127.0.0.1:{API_SERVER}{path}" for path in OF_THE_API_SERVER]
    kubelet = [f"https://{node.own_address}:10250{path}" for path in OF_THE_KUBELET]
    closed = [f"http://{node.own_address}:10255/pods", "https://127.0.0.1:10250/pods"]
    said = node.succeed(["python3", "-c", ASK, *api, *kubelet, *closed], seconds=240).text.split()
    expected = ["401"] * len([*api, *kubelet]) + ["ConnectionRefusedError"] * len(closed)
    assert said == expected, said
    for server in (f"127.0.0.1:{API_SERVER}", f"{node.own_address}:10250"):
        taken = node.succeed(["python3", "-c", OFFER, server], seconds=120).text.split()
        assert taken == ["refused", "refused", "taken"], (server, taken)
    # What every pod has: an account that may do nothing.
    for verb, what in (("list", "secrets"), ("get", "nodes/proxy"), ("create", "pods/exec")):
        answer = refused(
            cluster, "auth", "can-i", verb, what, "--as=system:serviceaccount:default:default"
        )
        assert "no" in answer.split(), answer


def refused(cluster: Cluster, *arguments: str, stdin: str | None = None) -> str:
    """What kubectl says of what it must not do."""
    with pytest.raises(CommandError) as caught:
        cluster.kubectl(*arguments, stdin=stdin)
    return str(caught.value)


def pod(namespace: str, **spec: Any) -> str:
    """A pod, as JSON; fields of its only container begin with ``container_``."""
    own = {key: value for key, value in spec.items() if not key.startswith("container_")}
    container = {key.removeprefix("container_"): spec[key] for key in spec if key not in own}
    document = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": namespace},
        "spec": {
            "containers": [{"name": "c", "image": "kubesolo.io/busybox:1", **container}], **own
        },
    }  # fmt: skip
    return json.dumps(document)


ASKING_TOO_MUCH: dict[str, dict[str, Any]] = {
    "privileged": {"container_securityContext": {"privileged": True}},
    "hostPath": {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]},
    "host namespaces": {"hostNetwork": True, "hostPID": True},
    "hostPort": {"container_ports": [{"containerPort": 80, "hostPort": 80}]},
    "non-default capabilities": {"container_securityContext": {"capabilities": {"add": ["BPF"]}}},
}
TRY = ("create", "--dry-run=server", "--validate=false", "-f", "-")


@scenario()
def test_pods_that_reach_for_the_host_are_refused(node: Node) -> None:
    cluster = begin(node)
    for name, spec in ASKING_TOO_MUCH.items():
        said = refused(cluster, *TRY, stdin=pod("default", **spec))
        assert 'violates PodSecurity "baseline:latest"' in said, (name, said)
        assert name.split()[0] in said, (name, said)
        # What the image brings needs it.
        cluster.kubectl(*TRY, stdin=pod("kube-system", **spec))
    taken = cluster.kubectl(*TRY, stdin=pod("default"))
    assert 'would violate PodSecurity "restricted:latest"' in taken.stderr.decode()
    # An administrator says what a namespace may hold.
    cluster.kubectl("create", "namespace", "host")
    cluster.kubectl("label", "namespace", "host", ANY_POD)
    cluster.kubectl(*TRY, stdin=pod("host", **ASKING_TOO_MUCH["privileged"]))
    tell(node, pod_security="privileged")
    cluster.kubectl(*TRY, stdin=pod("default", **ASKING_TOO_MUCH["privileged"]))


@scenario()
def test_the_audit_log_says_who_did_what_and_no_secret(node: Node) -> None:
    cluster = begin(node)
    cluster.kubectl("create", "secret", "generic", "s", f"--from-literal=password={IN_A_SECRET}")
    cluster.get("secret", "s")
    account = "--as=system:serviceaccount:default:default"
    assert "Forbidden" in refused(cluster, "get", "secrets", account)
    cluster.kubectl("create", "clusterrolebinding", "b", "--clusterrole=view", "--user=mallory")
    lines = node.get(f"{AUDIT}/audit.log").decode().splitlines()
    events = [json.loads(line) for line in lines]
    about = [event for event in events if event.get("objectRef", {}).get("resource") == "secrets"]
    found = {
        (
            event["verb"],
            event.get("impersonatedUser", event["user"])["username"],
            event["responseStatus"]["code"],
        )
        for event in about
    }
    assert {
        ("create", "kubernetes-admin", 201),
        ("get", "kubernetes-admin", 200),
        ("list", "system:serviceaccount:default:default", 403),
    } <= found, found
    assert not any("requestObject" in event or "responseObject" in event for event in about)
    [binding] = [e for e in events if e.get("objectRef", {}).get("name") == "b"]
    assert binding["requestObject"]["subjects"][0]["name"] == "mallory"
    text = "\n".join(lines)
    assert IN_A_SECRET not in text
    assert '"resource":"leases"' not in text
    listing = node.succeed(f"stat -c '%a %u' {AUDIT} {AUDIT}/audit.log").text.splitlines()
    assert listing == ["700 0", "600 0"]


@scenario()
def test_what_listens_is_what_the_document_says(node: Node) -> None:
    begin(node)
    rows, found = documented(DOCUMENT.read_text()), look(node)
    unknown, absent = compare(rows, found, node.own_address)
    assert (unknown, absent) == ([], []), found


def reaches(node: Node) -> bool:
    """Whether this host gets an answer of the API server's port."""
    host, _, port = node.address(API_SERVER).rpartition(":")
    try:
        with socket.create_connection((host, int(port)), 30) as stream:
            stream.settimeout(20)
            # What is no TLS gets a 400; a port that nobody serves is closed by QEMU.
            stream.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return stream.recv(16).startswith(b"HTTP/1.0 400")
    except OSError:
        return False


@scenario()
def test_the_api_server_is_reached_from_where_the_setting_says(node: Node) -> None:
    cluster = begin(node)
    assert reaches(node)
    tell(node, api_access=["node"])
    assert not reaches(node)
    on_node = Cluster(node, on_node=True)
    # The kubelet goes on to report; right after a start the node may be unready once more.
    on_node.wait(f"node/{on_node.node_name}", "condition=Ready")
    # A pod asks with what it was given: the Service's address.
    tell(node, api_access=["192.168.7.0/24", node.host_address])
    assert reaches(node)
    ask = "nc -w 10 $KUBERNETES_SERVICE_HOST $KUBERNETES_SERVICE_PORT < /dev/null && echo open"
    assert "open" in cluster.said_in_a_pod("ask", ask)
    assert node.status().problems == []
