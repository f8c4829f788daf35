"""What Kubernetes finds when it starts."""

from __future__ import annotations

import base64
import json
import os
import stat
import time
from pathlib import Path

import pytest

from product.agent.system import program
from product.image.tools import IMAGES
from product.node import address, pki
from product.node import configure as module
from product.node.configure import configure, renew
from product.node.errors import StorageError
from product.node.pki import Identity
from product.node.tests.conftest import NodeWorld
from product.node.tests.test_images import archive
from product.node.upstream import POD_RANGE


def run(world: NodeWorld) -> Identity:
    return configure(world.paths, world.payload, world.reporter)


def test_a_first_boot_and_the_next(world: NodeWorld) -> None:
    assert run(world) == Identity("node-1", "10.0.2.15")
    assert world.problems == []
    assert "kubesolo: kubernetes: made certificates for node-1\n" in world.console
    said = world.console
    assert run(world) == Identity("node-1", "10.0.2.15")
    assert world.console == said


def test_the_dns_begins_anew_with_a_new_certificate_alone(
    world: NodeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def record(argv: list[str]) -> tuple[int, str]:
        asked.append(argv)
        return 0, ""

    monkeypatch.setattr(program, "run", record)
    run(world)
    run(world)
    # Pods' names are resolved while Kubernetes starts anew.
    assert asked == []
    Path(world.paths.pki, "dns.crt").unlink()
    run(world)
    assert asked == [["sv", "term", f"{world.paths.services}/cluster-dns"]]


def test_the_plan_can_be_followed(world: NodeWorld) -> None:
    """Every file that a component is pointed at exists, and nothing else is readable by others."""
    run(world)
    plan = Path(world.paths.plan).read_text()
    words = plan.replace("=", " ").split()
    files = {word for word in words if word.startswith(str(world.root)) and "." in word[-20:]}
    for path in files - {word for word in files if word.endswith("etcd")}:
        # The API server makes it.
        if path not in (world.paths.console, f"{world.paths.audit}/audit.log"):
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o600, path
    order = [line.split()[0] for line in plan.splitlines()]
    assert order.index("etcd") < order.index("kube-apiserver") < order.index("kubelet")
    assert order.index("kubelet") < order.index("ready") < order.index("kube-scheduler")
    assert stat.S_IMODE(os.stat(world.paths.config).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(world.paths.data).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(world.paths.audit).st_mode) == 0o700


def test_kubeconfigs_stand_alone_and_belong_to_root(world: NodeWorld) -> None:
    run(world)
    found = list(Path(world.paths.config).glob("*.kubeconfig"))
    # The cluster DNS is a process of its own, with a certificate of its own.
    assert len(found) == 5
    for path in found:
        document = json.loads(path.read_text())
        user, cluster = document["users"][0]["user"], document["clusters"][0]["cluster"]
        name = path.name.partition(".")[0]
        for value, file in (
            (user["client-certificate-data"], f"{name}.crt"),
            (user["client-key-data"], f"{name}.key"),
            (cluster["certificate-authority-data"], "ca.crt"),
        ):
            assert base64.b64decode(value) == (Path(world.paths.pki) / file).read_bytes()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_api_server_knows_nobody_without_a_certificate(world: NodeWorld) -> None:
    run(world)
    plan = Path(world.paths.plan).read_text()
    (line,) = (line for line in plan.splitlines() if line.startswith("kube-apiserver"))
    assert "--anonymous-auth=false" in line
    assert "--authorization-mode=Node,RBAC" in line
    for line in plan.splitlines():
        if line.startswith(("kube-controller-manager", "kube-scheduler")):
            assert "--secure-port=0" in line
        if line.startswith("kube-controller-manager"):
            assert "--terminated-pod-gc-threshold=250 " in line


def test_pods_ask_the_cluster_dns(world: NodeWorld) -> None:
    run(world)
    kubelet = json.loads((Path(world.paths.config) / "kubelet.json").read_text())
    [address] = kubelet["clusterDNS"]
    corefile = (IMAGES / "payload/upstream/etc/coredns/Corefile").read_text()
    assert f"bind {address}\n" in corefile
    assert f"kubernetes {kubelet['clusterDomain']} {pki.SERVICE_RANGE} {POD_RANGE} " in corefile
    assert f"allow net {POD_RANGE} {address}/32\n" in corefile
    script = (IMAGES / "payload/upstream/usr/lib/kubesolo/services/cluster-dns/run").read_text()
    made = Path(world.paths.config, "dns.kubeconfig").relative_to(world.root)
    assert f"cp /{made} $folder/kubeconfig)" in script
    assert "folder=/run/kubesolo/cluster-dns\n" in script
    assert "kubeconfig /run/kubesolo/cluster-dns/kubeconfig\n" in corefile
    assert f"ip addr replace {address}/32 dev lo" in script


def test_the_dns_may_see_what_it_answers_with_and_nothing_else(world: NodeWorld) -> None:
    """The manifest's user is the certificate's."""
    dns = next(leaf for leaf in pki.leaves(Identity("n", "10.0.2.15")) if leaf.name == "dns")
    assert dns.client
    assert not dns.server
    assert dns.organization is None
    text = (IMAGES / "payload/upstream/usr/lib/kubesolo/manifests/cluster-dns.yaml").read_text()
    assert f"kind: User\n    name: {dns.common_name}\n" in text
    assert "secrets" not in text
    assert "*" not in text


def test_a_name_that_kubernetes_refuses_is_made_one(world: NodeWorld) -> None:
    world.write(world.paths.hostname, "My_Node\n")
    assert run(world).node == "my-node"
    assert "no node called 'My_Node'" in world.problems[0]
    assert "the node is called my-node" in world.problems[0]
    assert Path(world.paths.node_name).read_text() == "my-node\n"
    run(world)
    assert len(world.problems) == 1


def test_a_new_hostname_does_not_lose_the_node(world: NodeWorld) -> None:
    run(world)
    world.write(world.paths.hostname, "other\n")
    assert run(world).node == "node-1"
    assert "hostname is now 'other', Kubernetes keeps the node's name node-1" in world.problems[0]


def test_a_changed_address_is_followed(world: NodeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    run(world)
    monkeypatch.setattr(address, "wait_for_address", lambda paths, known: "192.168.1.7")
    assert run(world).address == "192.168.1.7"
    assert "address changed from 10.0.2.15 to 192.168.1.7" in world.console
    plan = Path(world.paths.plan).read_text()
    assert "--node-ip=192.168.1.7" in plan
    assert "--advertise-address=192.168.1.7" in plan
    assert "10.0.2.15" not in plan
    assert world.problems == []


def test_without_a_network_it_runs_all_the_same(
    world: NodeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = []
    monkeypatch.setattr(address, "wait_for_address", lambda paths, known: None)
    monkeypatch.setattr(address, "take_unconnected_address", lambda: taken.append(1))
    assert run(world).address == "192.0.2.1"
    assert taken
    assert "no network gave this node an address" in world.problems[0]


def test_a_full_partition_stops_before_anything_is_written(
    world: NodeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        f_bavail, f_frsize = 100, 4096

    monkeypatch.setattr(os, "statvfs", lambda path: Full)
    with pytest.raises(StorageError, match=r"the data partition is full: .* 0 MiB are free"):
        run(world)
    assert not Path(world.paths.data).exists()
    monkeypatch.undo()
    monkeypatch.setattr(address, "wait_for_address", lambda paths, known: "10.0.2.15")
    assert run(world)


def test_leftovers_of_the_kubelet_go(world: NodeWorld) -> None:
    world.write(f"{world.paths.kubelet}/cpu_manager_state", "")
    world.write(f"{world.paths.kubelet}/pods/x", "kept")
    run(world)
    assert not Path(f"{world.paths.kubelet}/cpu_manager_state").exists()
    assert Path(f"{world.paths.kubelet}/pods/x").exists()


def test_what_cpus_pods_have_is_remembered_until_the_kubelet_is_told_otherwise(
    world: NodeWorld,
) -> None:
    run(world)
    state = Path(f"{world.paths.kubelet}/cpu_manager_state")
    world.write(str(state), "pods that run have these CPUs")
    run(world)
    assert state.exists()
    settings = {"cpu-manager-policy": "static", "system-reserved": {"cpu": "100m"}}
    world.write(world.paths.settings, json.dumps({"schema": 1, "settings": settings}))
    run(world)
    assert not state.exists()


def test_a_release_without_a_date_stops_nothing(world: NodeWorld) -> None:
    world.write(world.paths.release, "{")
    before = time.time()
    assert module._floor(world.paths) >= before
    run(world)


def test_images_to_import_are_asked_for(world: NodeWorld) -> None:
    run(world)
    assert not Path(world.paths.import_request).exists()
    world.write_payload(images=str(world.root / "images"))
    run(world)
    assert not Path(world.paths.import_request).exists()


def test_an_image_is_imported_once_a_setting_asks_for_it(world: NodeWorld) -> None:
    archive(Path(world.root, "images", "metrics-server.tar"))
    world.write_payload(kind="upstream", images=f"{world.root}/images")
    run(world)
    assert not Path(world.paths.import_request).exists()
    world.write(world.paths.settings, '{"schema": 1, "settings": {"metrics-server": true}}')
    run(world)
    assert Path(world.paths.import_request).exists()


def test_a_running_node_renews_in_time(world: NodeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    run(world)
    restarts = []

    def restarted(argv: list[str]) -> tuple[int, str]:
        restarts.append(argv)
        return 0, ""

    monkeypatch.setattr(program, "run", restarted)
    assert not renew(world.paths, world.payload, world.reporter)
    assert restarts == []
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 300 * 86400)
    assert renew(world.paths, world.payload, world.reporter)
    assert restarts == [["sv", "-w", "20", "try-restart", f"{world.paths.services}/kubernetes"]]
    assert "apiserver (soon to expire)" in world.console
    assert not renew(world.paths, world.payload, world.reporter)


def test_a_node_that_never_ran_renews_nothing(world: NodeWorld) -> None:
    assert not renew(world.paths, world.payload, world.reporter)
    assert not Path(world.paths.pki).exists()
