"""Conditions that a node should not be in: each is said, and Kubernetes comes back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.pytest_plugin.scenario import scenario
from harness.qemu.arch import Arch
from harness.target.node import Node
from product.image.oci.layer import file, pack
from product.image.oci.layout import Config, Image, archive
from scenarios.kubernetes import KNOWN_FAULT, MACHINE, Cluster, begin, stage_beside_a_known_fault
from scenarios.releases import Releases
from scenarios.steps import Update

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

# etcd's database alone, in a node that runs.
DAMAGE_DATASTORE = f"""
sv -w 20 force-stop /run/service/kubernetes
dd if=/dev/urandom of={DATASTORE}/member/snap/db bs=4096 count=16 conv=notrunc 2> /dev/null
sv up /run/service/kubernetes
"""

LATER = "date -s @$(($(date +%s) + {days} * 86400))"

# The addresses of the device that leads elsewhere, as a network with other numbers gives them.
READDRESS = """
sv -w 10 down /run/service/dhcp
ip addr del 10.0.2.15/24 dev eth0
ip addr add 10.0.2.77/24 dev eth0
ip route replace default via 10.0.2.2 dev eth0
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
def test_a_damaged_datastore_comes_back_from_its_copy(
    node: Node, releases: Releases, begin_after: Callable[..., Update]
) -> None:
    """The copy is the one that was saved for the way back from an update."""
    begin_after(stage_beside_a_known_fault, releases.good, begin=begin, **KNOWN_FAULT)
    cluster = Cluster(node)
    since = node.journal.cursor
    node.succeed(DAMAGE_DATASTORE)
    node.wait_console(r"Kubernetes ended by itself \(etcd, ", seconds=REPAIRED, since=since)
    node.wait_console("kubesolo: kubernetes ready", seconds=REPAIRED, since=since)
    assert cluster.is_ready
    assert cluster.get("configmap", "kept")["data"] == {"answer": "42"}
    shown = node.succeed("kubesolo-update datastore").text
    [aside] = [line.split()[-1] for line in shown.splitlines() if line.startswith("put aside")]
    node.succeed(f"ls {aside}/data/member/snap/db")


@scenario()
def test_expired_certificates_and_another_address(node: Node) -> None:
    """A node whose clock is set past its certificates' end, then near the end of the new ones; and
    later it comes into another network."""
    begin(node)
    cluster = Cluster(node, on_node=True)
    cluster.kubectl("create", "configmap", "kept", "--from-literal=answer=42")
    since = node.journal.cursor
    node.succeed(LATER.format(days=400))
    node.fail([*cluster.command, "get", "nodes"])
    # The service upkeep sees that the clock was set.
    node.wait_console(r"kubernetes: made .*apiserver \(expired\)", seconds=120, since=since)
    node.wait_console("kubesolo: kubernetes ready", seconds=REPAIRED, since=since)
    assert cluster.is_ready
    since = node.journal.cursor
    node.succeed(LATER.format(days=300))
    node.wait_console(r"kubernetes: made .*admin \(soon to expire\)", seconds=120, since=since)
    node.wait_console("kubesolo: kubernetes ready", seconds=REPAIRED, since=since)
    since = node.journal.cursor
    node.succeed(READDRESS)
    node.wait_console("kubernetes follows .* from 10.0.2.15 to 10.0.2.77", seconds=120, since=since)
    node.wait_console("kubesolo: kubernetes ready", seconds=REPAIRED, since=since)
    [item] = cluster.get("nodes")["items"]
    [address] = [a["address"] for a in item["status"]["addresses"] if a["type"] == "InternalIP"]
    assert address == "10.0.2.77"
    # The certificate names it, too.
    cluster.kubectl("--server=https://10.0.2.77:6443", "get", "--raw", "/readyz")
    assert cluster.get("configmap", "kept")["data"] == {"answer": "42"}


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


# Leaves three of a hundred blocks to programs, where the kubelet wants five.
PRESS = """
import os
status = os.statvfs("/var/lib/kubesolo")
room = status.f_bavail - status.f_blocks * 3 // 100
with open("/var/lib/kubesolo/filler", "wb") as file:
    os.posix_fallocate(file.fileno(), 0, room * status.f_frsize)
"""
PULLED = "example.com/pulled:1"
IMAGES = "ctr -n k8s.io images ls -q"
IMPORT = "ctr -n k8s.io images import /tmp/pulled.tar && rm /tmp/pulled.tar"


@scenario()
def test_disk_pressure_takes_what_was_pulled_and_none_of_the_images_own(
    node: Node, arch: Arch
) -> None:
    cluster = begin(node)
    layer = pack([file("pulled", b"by somebody")], 0)
    architecture = {Arch.X86_64: "amd64", Arch.AARCH64: "arm64"}[arch]
    pulled = Image(PULLED, Config(), (layer,))
    node.put(archive([pulled], architecture, 0), "/tmp/pulled.tar")
    own = set(node.succeed(f"{IMAGES} | grep ^kubesolo.io/").text.split())
    node.succeed(IMPORT)
    assert PULLED in node.succeed(IMAGES).text.split()
    node.succeed(["python3", "-c", PRESS])
    name = f"node/{cluster.node_name}"
    cluster.wait(name, "condition=DiskPressure")
    node.succeed(f"while {IMAGES} | grep -q {PULLED}; do sleep 1; done", seconds=400)
    assert set(node.succeed(f"{IMAGES} | grep ^kubesolo.io/").text.split()) == own
    node.succeed("rm /var/lib/kubesolo/filler")
    cluster.wait(name, "condition=DiskPressure=False")
    # Nothing but what is in the image: it starts without a registry.
    cluster.create("nginx")
    cluster.rolled_out("web")


# What a hardware clock without a battery shows. A PC's firmware knows nothing before 2000.
CLOCK = {Arch.X86_64: "2000-01-01T00:00:00", Arch.AARCH64: "1970-01-01T00:00:00"}


@scenario()
def test_a_clock_before_the_image(machine_factory: Callable[..., Node], arch: Arch) -> None:
    """Certificates are made for when the image was built, at the earliest."""
    node = machine_factory(rtc=CLOCK[arch])
    node.boot()
    assert Cluster(node, on_node=True).is_ready
    assert any("the clock stood before" in problem for problem in node.status().problems)
