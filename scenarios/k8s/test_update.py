"""Updates of a node that runs Kubernetes: the cluster is among the judges."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.node import Node, State
from harness.scenario import scenario
from scenarios.kubernetes import MACHINE, Cluster
from scenarios.releases import Releases
from scenarios.steps import REFUSED, Update

pytestmark = pytest.mark.machine(**MACHINE)

Serve = Callable[..., Update]

# A short settle time: the checks are the same.
SETTLE = "6"
# From arming to the judgement of an emulated node.
JUDGED = 400.0


@scenario()
def test_an_update_while_pods_run(node: Node, releases: Releases, serve: Serve) -> None:
    node.at(State.READY, slot="A")
    cluster = Cluster(node)
    cluster.apply("nginx")
    cluster.rolled_out("web")
    cluster.kubectl("create", "configmap", "kept", "--from-literal=answer=42")
    update = serve(releases.good, kube_system_settle=SETTLE)
    update.stage()
    with node.expect_boots(1) as boots:
        node.reboot()
        ready = node.wait_ready(seconds=JUDGED)
    assert boots.slots == ["B"]
    assert (ready.version, ready.slot, ready.confirmed) == ("0.2.0", "B", True)
    assert cluster.is_ready
    assert cluster.get("configmap", "kept")["data"] == {"answer": "42"}
    cluster.rolled_out("web")
    address = cluster.get("service", "web")["spec"]["clusterIP"]
    node.succeed(f"wget -q -T 10 -O - http://{address}/")


@scenario()
def test_a_release_whose_kubernetes_cannot_start_rolls_back(
    node: Node, releases: Releases, serve: Serve
) -> None:
    node.at(State.READY, slot="A")
    cluster = Cluster(node)
    cluster.kubectl("create", "configmap", "kept", "--from-literal=answer=42")
    update = serve(
        releases.broken("kubelet-cannot-start"), healthcheck_deadline="15", auto_rollback_after="1"
    )
    update.stage()
    with node.expect_boots(2, seconds_each=JUDGED) as boots:
        node.reboot()
    ready = node.wait_ready()
    assert boots.slots == ["B", "A"]
    assert (ready.version, ready.confirmed) == ("0.1.0", True)
    error = node.status().update.last_error
    assert error.startswith("rolled back: 1 failed health check of 0.2.1: "), error
    assert "api_server" in error, error
    assert cluster.is_ready
    assert cluster.get("configmap", "kept")["data"] == {"answer": "42"}


@scenario()
def test_a_crash_looping_system_pod_is_caught_by_the_settle_time(
    node: Node, releases: Releases, serve: Serve
) -> None:
    """Its container starts, runs for some seconds and ends, again and again."""
    node.at(State.READY, slot="A")
    cluster = Cluster(node)
    cluster.apply("crash-loop")
    cluster.kubectl("-n", "kube-system", "rollout", "status", "deployment/picky", seconds=240)
    update = serve(
        releases.good, kube_system_settle="10", healthcheck_deadline="60", auto_rollback_after="1"
    )
    update.stage()
    with node.expect_boots(2, seconds_each=JUDGED) as boots:
        node.reboot()
    node.wait_ready()
    assert boots.slots == ["B", "A"]
    error = node.status().update.last_error
    assert "kube_system" in error, error
    assert "picky" in error, error


@scenario()
def test_a_fault_that_was_there_before_is_not_blamed(
    node: Node, releases: Releases, serve: Serve
) -> None:
    node.at(State.READY, slot="A")
    cluster = Cluster(node)
    cluster.apply("always-crashing")
    cluster.wait_restarted("kube-system", "app=broken")
    update = serve(releases.good, kube_system_settle=SETTLE, auto_rollback_after="1")
    update.stage()
    with node.expect_boots(1) as boots:
        node.reboot()
        ready = node.wait_ready(seconds=JUDGED)
    assert boots.slots == ["B"]
    assert ready.confirmed
    checks = {check["name"]: check for check in node.status().last_boot_check.health}
    assert checks["kube_system"]["result"] == "known", checks["kube_system"]


@scenario()
def test_the_api_server_is_killed_while_it_is_asked(
    node: Node, releases: Releases, serve: Serve
) -> None:
    node.at(State.READY, slot="A")
    cluster = Cluster(node)
    update = serve(releases.good, kube_system_settle="15")
    update.stage()
    node.reboot()
    since = node.journal.cursor
    node.machine.channel.wait_up(node.machine.deadline(60))
    node.wait_console("kubesolo: kubernetes ready", seconds=JUDGED, since=since)
    # Within the settle time.
    service = cluster.payload["services"][-1]
    node.succeed(f"kill -9 $(cat /run/service/{service}/supervise/pid)")
    ready = node.wait_ready(seconds=JUDGED)
    assert (ready.slot, ready.confirmed) == ("B", True)
    assert cluster.is_ready


@scenario()
def test_the_block_label_refuses_updates(node: Node, releases: Releases, serve: Serve) -> None:
    node.at(State.READY, slot="A")
    cluster = Cluster(node)
    update = serve(releases.good)
    cluster.kubectl("label", "node", cluster.node_name, "updates.kubesolo.io/block=true")
    update.refused("node_block_label", exit=REFUSED)
    cluster.kubectl("label", "node", cluster.node_name, "updates.kubesolo.io/block-")
    update.apply()
    assert node.status().update.phase == "staged"
