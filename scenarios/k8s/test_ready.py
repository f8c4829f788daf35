"""The node is a Kubernetes node, and what runs on it works."""

from __future__ import annotations

import pytest

from harness.pytest_plugin.scenario import scenario
from harness.target.node import Node
from scenarios.kubernetes import MACHINE, begin

# The status that somebody without a certificate gets.
ASK = """
import ssl, sys, urllib.error, urllib.request
anyone = ssl._create_unverified_context()
try:
    print(urllib.request.urlopen(sys.argv[1], timeout=20, context=anyone).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""

# Asks every TCP port on which anything listens for the file argv[1], over plain HTTP: the port,
# then the status or the error, then whether there was a key in what came.
ASK_EVERYBODY = """
import glob, http.client, socket, sys
ports = set()
for table in glob.glob("/proc/net/tcp*"):
    for line in list(open(table))[1:]:
        fields = line.split()
        if fields[3] == "0A":
            ports.add(int(fields[1].rpartition(":")[2], 16))
for port in sorted(ports):
    for host in ("127.0.0.1", sys.argv[2]):
        connection = http.client.HTTPConnection(host, port, timeout=10)
        body = b""
        try:
            connection.request("GET", sys.argv[1])
            reply = connection.getresponse()
            status, body = reply.status, reply.read()
        except (OSError, http.client.HTTPException) as error:
            status = type(error).__name__
        secret = b"PRIVATE KEY" in body or b"client-key-data" in body
        print(port, status, "secret" if secret else "nothing")
"""

# Whether memory that is read before it is written is first mapped to a shared page of zeros.
ZERO_PAGE = "/sys/kernel/mm/transparent_hugepage/use_zero_page"

# Nanoseconds that the timers of the programs of that name may be late.
TIMER_SLACK = "for process in $(pidof {}); do cat /proc/$process/timerslack_ns; done | sort -u"

pytestmark = pytest.mark.machine(**MACHINE)


@scenario()
def test_the_node_is_ready(node: Node) -> None:
    cluster = begin(node)
    assert cluster.is_ready
    checks = {check["name"]: check for check in node.status().last_boot_check.health}
    for name in ("containerd", "api_server", "node_ready", "kube_system"):
        assert checks[name]["result"] == "pass", checks[name]
    # An operator's pods run in kube-system as any.
    cluster.create("steady")
    cluster.rolled_out("steady", namespace="kube-system")
    assert cluster.system_phases["steady"] == "Running"
    assert node.status().problems == []
    # Its own timers are batched, those of pods are not.
    assert [node.succeed(TIMER_SLACK.format(name)).text for name in ("kubenode", "pause")] == [
        "4000000", "50000"
    ]  # fmt: skip
    # The heaps of programs in Go would be copied from there, one small page after another.
    assert node.get(ZERO_PAGE).decode().strip() == "0"


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
    # Nobody without a certificate learns anything, and nothing gives it over plain HTTP.
    assert node.succeed(["python3", "-c", ASK, "https://127.0.0.1:6443/api/v1/secrets"]).text in (
        "401",
        "403",
    )
    assert (
        node.succeed(["python3", "-c", ASK, "http://127.0.0.1:6443/api/v1/secrets"]).text == "400"
    )
    node.fail(["python3", "-c", ASK, f"http://127.0.0.1:80{path}"])
    answers = node.succeed(
        ["python3", "-c", ASK_EVERYBODY, path, node.own_address], seconds=240
    ).text
    said = [line.split() for line in answers.splitlines()]
    assert {"6443", "10250"} <= {port for port, _, _ in said}, answers
    assert all(status != "200" and what == "nothing" for _, status, what in said), answers


@scenario()
@pytest.mark.machine(cpus=2, memory_mib=1024, disk_size_mib=6144)
def test_one_gibibyte_is_enough_for_a_workload(node: Node) -> None:
    cluster = begin(node)
    cluster.create("nginx")
    cluster.rolled_out("web")
    assert cluster.page(cluster.web)
    assert not any("Out of memory" in event.text for event in node.journal.events(0))
    conditions = cluster.get("node", cluster.node_name)["status"]["conditions"]
    assert {c["type"]: c["status"] for c in conditions}["MemoryPressure"] == "False"


@scenario(tier="core")
def test_a_workload_is_served_through_its_service(node: Node) -> None:
    cluster = begin(node)
    cluster.create("nginx")
    cluster.rolled_out("web")
    address = cluster.web
    page = cluster.page(address)
    assert "nginx" in page.lower() or "kubesolo" in page.lower(), page
    assert cluster.page(f"{node.own_address}:30080") == page
    # From a pod, too, by address and by name.
    hosts = (address, "web", "web.default.svc.cluster.local")
    ask = " && ".join(f"wget -q -T 10 -O - http://{host}/" for host in hosts)
    seen = cluster.said_in_a_pod("look", ask)
    assert seen.count(page) == len(hosts), seen
