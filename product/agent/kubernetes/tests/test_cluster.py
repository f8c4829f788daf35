"""What the checks and the gate ask of a real HTTPS server with client certificates."""

from __future__ import annotations

import json
import os
import time

import pytest

from product.agent.config import Config
from product.agent.health.checks import CHECKS, HealthContext, Result
from product.agent.health.runner import run_once, run_until
from product.agent.kubernetes.api import ApiClient, ApiError
from product.agent.kubernetes.cluster import Cluster as Asked
from product.agent.kubernetes.kubeconfig import read_kubeconfig
from product.agent.tests.support_cluster import NODE, Authority, Cluster, kubeconfig, pod
from product.agent.tests.world import World
from product.agent.update.gates import GATES, GateContext

KUBERNETES = ("containerd", "api_server", "node_ready", "kube_system")
LABEL = next(gate for gate in GATES if gate.name == "node_block_label")


def look(cluster: Cluster, *, settle: float = 0) -> dict[str, Result]:
    context = HealthContext(cluster.world.node(), Config(), False, settle=settle)
    return {r.name: r for r in run_once(context) if r.name in KUBERNETES}


def failing(cluster: Cluster) -> list[str]:
    return [name for name, result in look(cluster).items() if result.result == "fail"]


def test_a_node_that_is_well(cluster: Cluster) -> None:
    cluster.api.pods = [pod("coredns"), pod("job", phase="Succeeded", ready=False)]
    results = look(cluster)
    assert {name: r.result for name, r in results.items()} == dict.fromkeys(KUBERNETES, "pass")
    assert results["containerd"].reason == "containerd serves"
    assert results["node_ready"].reason == f"node {NODE} is Ready"
    assert results["kube_system"].reason == "all 2 pods of kube-system: well"
    # One TLS connection for all of them.
    assert cluster.api.connections == 1


def test_no_pods_at_all(cluster: Cluster) -> None:
    assert look(cluster)["kube_system"].reason == "kube-system has no pods"


def test_nothing_is_up_yet(cluster: Cluster) -> None:
    cluster.config = kubeconfig(1, *_pair())
    cluster.write()
    results = look(cluster)
    assert "127.0.0.1:1 cannot be asked" in results["api_server"].reason
    assert results["node_ready"].subjects == ("api_server",)
    assert results["kube_system"].subjects == ("api_server",)


def _pair() -> tuple[Authority, tuple[bytes, bytes]]:
    authority = Authority("other")
    return authority, authority.issue("admin")


def test_a_missing_kubeconfig(cluster: Cluster) -> None:
    cluster.payload["kubeconfig"] = "/nowhere"
    cluster.world.write_file(cluster.world.paths.payload, json.dumps(cluster.payload))
    assert "there is no kubeconfig at" in look(cluster)["api_server"].reason


def test_an_api_server_that_is_not_ready(cluster: Cluster) -> None:
    cluster.api.ready = False
    results = look(cluster)
    assert results["api_server"].reason == ("/readyz answered 500: [-]etcd failed: reason withheld")
    assert failing(cluster) == ["api_server", "node_ready", "kube_system"]
    # The others are not asked, so that their limits do not add up.
    assert set(cluster.api.requests) == {"/readyz"}


def test_a_client_that_the_server_does_not_know(
    cluster: Cluster, authorities: tuple[Authority, Authority]
) -> None:
    cluster.config = kubeconfig(cluster.api.port, authorities[0], Authority("x").issue("admin"))
    cluster.write()
    assert failing(cluster) == ["api_server", "node_ready", "kube_system"]


def test_a_server_that_the_client_does_not_know(
    cluster: Cluster, authorities: tuple[Authority, Authority]
) -> None:
    cluster.config = kubeconfig(
        cluster.api.port, Authority("server ca"), authorities[1].issue("admin")
    )
    cluster.write()
    assert "certificate verify failed" in look(cluster)["api_server"].reason
    assert cluster.api.requests == []


def test_an_expired_client_certificate(
    cluster: Cluster, authorities: tuple[Authority, Authority]
) -> None:
    expired = authorities[1].issue("admin", expired=True)
    cluster.config = kubeconfig(cluster.api.port, authorities[0], expired)
    cluster.write()
    assert failing(cluster) == ["api_server", "node_ready", "kube_system"]
    assert cluster.api.requests == []


def test_a_certificate_without_a_usable_key(
    cluster: Cluster, authorities: tuple[Authority, Authority]
) -> None:
    certificate, _ = authorities[1].issue("admin")
    _, key = authorities[1].issue("other")
    cluster.config = kubeconfig(cluster.api.port, authorities[0], (certificate, key))
    cluster.write()
    assert "cannot be asked" in look(cluster)["api_server"].reason


def test_a_silent_server_costs_its_limit_and_no_more(cluster: Cluster) -> None:
    cluster.api.silent.set()
    asked = Asked(
        cluster.world.node(), cluster.world.paths.under(str(cluster.payload["kubeconfig"]))
    )
    begun = time.monotonic()
    result, reason, _ = asked.api_server(0.3)
    assert (result, "did not answer in time" in reason) == ("fail", True)
    assert time.monotonic() - begun < 2


@pytest.mark.parametrize("raw", [b"{", b"[]", b"\xff", b"{" + b'"a":[' * 5000])
def test_answers_that_are_no_lists(cluster: Cluster, raw: bytes) -> None:
    cluster.api.raw = raw
    results = look(cluster)
    assert results["node_ready"].result == "fail"
    assert results["kube_system"].result == "fail"


@pytest.mark.parametrize("raw", [b"{}", b'{"items": 3}', b'{"items": [3, {"metadata": 4}]}'])
def test_lists_of_nonsense(cluster: Cluster, raw: bytes) -> None:
    cluster.api.raw = raw
    assert look(cluster)["node_ready"].result == "fail"


def test_a_server_that_restarts_is_connected_to_again(cluster: Cluster) -> None:
    client = ApiClient(
        read_kubeconfig(cluster.world.paths.under(str(cluster.payload["kubeconfig"])))
    )
    client.get("/readyz", 2)
    assert client._connection is not None
    client._connection.sock.close()
    client.get("/readyz", 2)
    assert cluster.api.connections == 2
    client.close()
    with pytest.raises(ApiError, match="/x answered 404: not found"):
        client.get_json("/x", 2)
    client.close()


# The node.


def test_a_node_that_is_not_ready(cluster: Cluster) -> None:
    cluster.api.node_status = "False"
    result = look(cluster)["node_ready"]
    assert (result.result, result.subjects) == ("fail", ("node",))
    assert result.reason == f"node {NODE} is not Ready: the network is not set"


def test_what_the_kubelet_said_before_the_reboot_does_not_count(cluster: Cluster) -> None:
    cluster.world.power_on()
    assert "has not reported in this boot" in look(cluster)["node_ready"].reason
    cluster.api.boot_id = "boot-2"
    assert look(cluster)["node_ready"].result == "pass"


def test_another_node_is_not_this_one(cluster: Cluster) -> None:
    cluster.api.nodes = [cluster.api.node("old-name"), cluster.api.node("older")]
    assert "no node is called kubesolo-1; there are: old-name, older" in (
        look(cluster)["node_ready"].reason
    )
    cluster.api.nodes = []
    assert "there are: none" in look(cluster)["node_ready"].reason


def test_the_only_node_is_this_one_whatever_its_name(cluster: Cluster) -> None:
    cluster.api.nodes = [cluster.api.node("named-otherwise")]
    assert look(cluster)["node_ready"].result == "pass"


# The label.


def verdict(cluster: Cluster, *, force: bool = False) -> tuple[str, str]:
    found = LABEL.evaluate(GateContext(cluster.world.node(), Config(), force))
    return found.result, found.reason


def test_the_label_refuses(cluster: Cluster) -> None:
    assert verdict(cluster) == ("pass", "the node's updates.kubesolo.io/block is not set")
    cluster.api.labels = {"updates.kubesolo.io/block": "true"}
    assert verdict(cluster) == (
        "refuse",
        "the node carries the label updates.kubesolo.io/block=true",
    )
    assert verdict(cluster, force=True)[0] == "bypassed"
    cluster.api.labels = {"updates.kubesolo.io/block": "false"}
    assert verdict(cluster)[0] == "pass"


def test_only_this_nodes_label_counts(cluster: Cluster) -> None:
    cluster.api.labels = {"updates.kubesolo.io/block": "true"}
    blocked = cluster.api.node("other")
    cluster.api.labels = {}
    cluster.api.nodes = [blocked, cluster.api.node()]
    assert verdict(cluster)[0] == "pass"


def test_a_cluster_that_cannot_be_asked_is_passed_and_said(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.api.labels = {"updates.kubesolo.io/block": "true"}
    monkeypatch.setattr("product.agent.update.gates.LABEL_SECONDS", 0.3)
    cluster.api.silent.set()
    result, reason = verdict(cluster)
    assert result == "bypassed"
    assert "did not answer in time, so updates.kubesolo.io/block cannot be asked for" in reason


def test_without_a_payload_the_old_kubeconfig_counts(cluster: Cluster, world: World) -> None:
    cluster.api.labels = {"updates.kubesolo.io/block": "true"}
    os.unlink(world.paths.payload)
    assert verdict(cluster)[0] == "not_applicable"
    world.write_file(world.paths.kubeconfig, json.dumps(cluster.config))
    assert verdict(cluster)[0] == "refuse"


# The rounds.


def test_the_round_ends_when_all_is_well(cluster: Cluster) -> None:
    cluster.api.ready = False
    world = cluster.world
    pause = world.clock.pause

    def starts(seconds: float) -> None:
        pause(seconds)
        cluster.api.ready = world.clock.seconds > 1_800_000_020

    world.clock.pause = starts  # type: ignore[method-assign]
    context = HealthContext(world.node(), Config(), False)
    results = run_until(context, 60, CHECKS)
    assert {r.name for r in results if r.result == "fail"} == set()
    assert 20 <= world.clock.seconds - 1_800_000_000 < 23


def test_pods_settle_from_when_the_node_is_ready(cluster: Cluster) -> None:
    """Before, the API server knows of them what the kubelet said before the reboot."""
    clock = cluster.world.clock
    context = HealthContext(cluster.world.node(), Config(), True, settle=10)
    node_ready, kube_system = (
        next(check for check in CHECKS if check.name == name)
        for name in ("node_ready", "kube_system")
    )
    cluster.api.pods = [pod("well")]
    cluster.api.node_status = "False"
    for _ in range(3):
        assert node_ready.run(context, 5).result == "fail"
        found = kube_system.run(context, 5)
        assert (found.result, found.subjects) == ("fail", ("node",))
        clock.pause(20)
    cluster.api.node_status = "True"
    assert node_ready.run(context, 5).result == "pass"
    assert kube_system.run(context, 5).result == "fail"
    clock.pause(11)
    assert kube_system.run(context, 5).result == "pass"


def test_a_pod_of_the_boot_before_is_not_well_yet(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = cluster.world.clock
    # The machine has run for a minute.
    monkeypatch.setattr(clock, "monotonic", lambda: 60.0 + clock.seconds - 1_800_000_000.0)
    node = cluster.world.node()
    context = HealthContext(node, Config(), True, settle=10)
    kube_system = next(check for check in CHECKS if check.name == "kube_system")
    cluster.api.pods = [pod("web", started="2027-01-15T07:58:59Z")]
    for _ in range(2):
        found = kube_system.run(context, 5)
        assert found.reason == "web was last reported before the reboot"
        clock.pause(60)
    cluster.api.pods = [pod("web", restarts=1, started="2027-01-15T08:01:00Z")]
    assert kube_system.run(context, 5).result == "fail"
    clock.pause(11)
    assert kube_system.run(context, 5).result == "pass"
    # Where no verdict hangs on it, nobody asks since when.
    cluster.api.pods = [pod("web")]
    assert kube_system.run(HealthContext(node, Config(), False), 5).result == "pass"


def test_a_node_that_does_not_come_up_costs_the_deadline(cluster: Cluster) -> None:
    cluster.api.node_status = "Unknown"
    results = run_until(HealthContext(cluster.world.node(), Config(), False), 10, CHECKS)
    assert [r.name for r in results if r.result == "fail"] == ["node_ready"]
    assert 10 <= cluster.world.clock.seconds - 1_800_000_000 < 11


def test_the_deadline_is_longer_where_kubernetes_must_start(cluster: Cluster) -> None:
    node = cluster.world.node()
    assert HealthContext(node, Config(), True).deadline == 300
    assert HealthContext(node, Config(healthcheck_deadline=7), True).deadline == 7
    assert HealthContext(node, Config(healthcheck_deadline=5400), True).deadline == 3600
    os.unlink(cluster.world.paths.payload)
    assert HealthContext(node, Config(), True).deadline == 120
