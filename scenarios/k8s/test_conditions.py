"""Conditions that a node should not be in: each is said, and Kubernetes comes back."""

from __future__ import annotations

import pytest

from harness.node import Node
from harness.scenario import scenario
from scenarios.kubernetes import MACHINE, Cluster, begin

pytestmark = pytest.mark.machine(**MACHINE)

PKI = "/var/lib/kubesolo/kubernetes/pki"
DATASTORE = "/var/lib/kubesolo/kubernetes/etcd"
# From the loader to Ready on an emulated node that has something to repair first.
REPAIRED = 300.0

# Into the middle of etcd's database, and in the place of what the API server shows.
DAMAGE = f"""
sv -w 20 force-stop /run/service/kubernetes
dd if=/dev/urandom of={DATASTORE}/member/snap/db bs=4096 count=16 conv=notrunc 2> /dev/null
echo garbage > {PKI}/apiserver.crt
echo Edge_Node > /etc/kubesolo/hostname
sync
"""

# Leaves ten MiB.
FILL = """
import os
status = os.statvfs("/var/lib/kubesolo")
with open("/var/lib/kubesolo/filler", "wb") as file:
    os.posix_fallocate(file.fileno(), 0, status.f_bavail * status.f_frsize - (10 << 20))
"""


@scenario()
def test_damage_is_repaired_and_said(node: Node) -> None:
    """A damaged datastore and certificate, a hostname that Kubernetes refuses."""
    cluster = begin(node)
    name = cluster.node_name
    node.succeed(DAMAGE)
    node.reboot()
    node.wait_ready(seconds=REPAIRED)
    assert cluster.is_ready
    assert cluster.node_name == name
    problems = "\n".join(node.status().problems)
    assert "the datastore was damaged" in problems
    assert "apiserver" in problems
    assert "Edge_Node" in problems
    # What was replaced is kept.
    shown = node.succeed("kubesolo-update datastore").text
    [aside] = [line.split()[-1] for line in shown.splitlines() if line.startswith("put aside")]
    node.succeed(f"ls {aside}/data/member/snap/db")


@scenario()
def test_a_full_data_partition_is_said_and_waited_for(node: Node) -> None:
    cluster = begin(node)
    cluster.kubectl("create", "configmap", "kept", "--from-literal=answer=42")
    node.succeed(["python3", "-c", FILL])
    since = node.journal.cursor
    node.succeed("sv -w 20 restart /run/service/kubernetes")
    node.wait_console("the data partition is full: Kubernetes needs .* MiB are free", since=since)
    node.succeed("rm /var/lib/kubesolo/filler")
    node.wait_console("kubesolo: kubernetes ready", seconds=REPAIRED, since=since)
    assert cluster.is_ready
    assert cluster.get("configmap", "kept")["data"] == {"answer": "42"}


# What a PC's hardware clock begins with; its firmware knows nothing earlier.
@pytest.mark.machine(rtc="2000-01-01T00:00:00")
@scenario()
def test_a_clock_before_the_image(node: Node) -> None:
    """Certificates are made for when the image was built, at the earliest."""
    node.boot()
    assert Cluster(node).is_ready
    assert any("the clock stood before" in problem for problem in node.status().problems)
