"""From one minor version of Kubernetes to the next, and the ways back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.pytest_plugin.scenario import scenario
from harness.target.node import Node
from scenarios.kubernetes import JUDGED, MACHINE, Cluster, begin, trial, verdict
from scenarios.releases import GOOD, NEWER, Releases
from scenarios.steps import REFUSED, Update, configure, failed_for

pytestmark = pytest.mark.machine(**MACHINE)

Begin = Callable[..., Update]

# An object whose kind is the cluster's own: migrated as the rest.
KIND = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: pumps.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {kind: Pump, plural: pumps, singular: pump}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
"""
PUMP = """
apiVersion: example.com/v1
kind: Pump
metadata: {name: north}
litres: 42
"""


def names(cluster: Cluster) -> set[str]:
    """Of the ConfigMaps of the namespace default."""
    return {item["metadata"]["name"] for item in cluster.get("configmaps")["items"]}


def kubelet(cluster: Cluster) -> str:
    """The kubelet's minor version, such as ``1.35``."""
    [item] = cluster.get("nodes")["items"]
    version: str = item["status"]["nodeInfo"]["kubeletVersion"]
    return version.removeprefix("v").rpartition(".")[0]


def stage_beside_a_workload(update: Update) -> None:
    """A Deployment that is served, and objects of several kinds, then the release."""
    cluster = Cluster(update.node)
    cluster.create("nginx")
    cluster.kubectl("create", "configmap", "kept", "--from-literal=answer=42")
    cluster.kubectl("create", "-f", "-", stdin=KIND)
    cluster.wait("crd/pumps.example.com", "condition=Established")
    cluster.kubectl("create", "-f", "-", stdin=PUMP)
    cluster.rolled_out("web")
    update.stage()


@scenario()
def test_the_newer_minor_takes_over_what_the_older_left_and_the_older_gets_it_back(
    node: Node,
    releases: Releases,
    releases_before: Releases,
    begin_after: Begin,
) -> None:
    release = releases.sign("newest-minor", releases.slot(GOOD))
    update = begin_after(stage_beside_a_workload, release, begin=begin)
    cluster = Cluster(node)
    before = cluster.payload["kubernetes"]
    page = cluster.page(cluster.web)
    assert kubelet(cluster) == before.rpartition(".")[0]
    with node.expect_boots(1) as boots:
        node.reboot()
        ready = node.wait_ready(seconds=JUDGED)
    assert boots.slots == ["B"]
    assert (ready.version, ready.confirmed) == ("0.2.0", True)
    newer = Cluster(node)
    assert newer.payload["kubernetes"] != before
    assert kubelet(newer) == newer.payload["kubernetes"].rpartition(".")[0]
    # What was stored by the older version is read by the newer one, and the workload runs.
    assert newer.get("configmap", "kept")["data"] == {"answer": "42"}
    assert newer.get("pump", "north")["litres"] == 42
    newer.rolled_out("web")
    assert newer.page(newer.web) == page
    newer.kubectl("create", "configmap", "later", "--from-literal=answer=43")
    # No release brings the older version back by itself.
    releases.publish_next(release, releases_before.slot(NEWER))
    update.refused("kubernetes_downgrade", exit=REFUSED)
    # An operator does, and it gets its own datastore.
    since = node.journal.cursor
    with node.expect_boots(1) as boots:
        node.succeed(["kubesolo-update", "rollback"])
        node.reboot()
        ready = node.wait_ready(seconds=JUDGED)
    assert boots.slots == ["A"]
    assert ready.version == "0.1.0"
    node.wait_console("datastore: .* put back; changes made since", since=since)
    node.target.channel.wait_up(node.deadline(JUDGED))
    cluster = Cluster(node)
    assert kubelet(cluster) == before.rpartition(".")[0]
    assert cluster.is_ready
    assert cluster.get("configmap", "kept")["data"] == {"answer": "42"}
    assert cluster.get("pump", "north")["litres"] == 42
    assert "later" not in names(cluster)
    cluster.rolled_out("web")
    assert cluster.page(cluster.web) == page
    shown = node.succeed(["kubesolo-update", "datastore"]).text
    [aside] = [line.split()[-1] for line in shown.splitlines() if line.startswith("put aside")]
    assert int(node.succeed(f"ls {aside}/data/member/wal | wc -l").text) > 0


def stage_beside_a_picky_pod(update: Update) -> None:
    """The pod is well as long as the release that is to come does not run."""
    cluster = Cluster(update.node)
    cluster.create("crash-loop")
    cluster.rolled_out("picky", namespace="kube-system")
    cluster.kubectl("create", "configmap", "kept", "--from-literal=answer=42")
    update.stage()


@scenario()
def test_a_crash_loop_under_a_newer_kubernetes_rolls_back_with_its_datastore(
    node: Node, releases: Releases, begin_after: Begin
) -> None:
    """A pod of kube-system starts, runs for some seconds and ends, again and again. The older
    Kubernetes gets the datastore back that it left."""
    begin_after(
        stage_beside_a_picky_pod, releases.good,
        begin=begin, kube_system_settle="10", auto_rollback_after="1",
    )  # fmt: skip
    cluster = Cluster(node)
    configure(node, healthcheck_deadline=trial(node, 90))
    # Neither slot's release is to blame for what is written between the copy and the reboot.
    cluster.kubectl("create", "configmap", "between", "--from-literal=answer=44")
    with node.expect_boots(2) as boots:
        node.reboot()
        since = node.journal.cursor
        node.target.channel.wait_up(node.deadline(JUDGED))
        node.wait_console("kubesolo: kubernetes ready", seconds=JUDGED, since=since)
        cluster.kubectl("create", "configmap", "later", "--from-literal=answer=43")
        assert verdict(node, since) == "rolled back"
    node.wait_ready(seconds=JUDGED)
    assert boots.slots == ["B", "A"]
    failed_for(boots, "1 failed health check of 0.2.0: .*kube_system: .*picky", times=1)
    error = node.status().update.last_error
    assert "kube_system" in error, error
    assert "picky" in error, error
    assert cluster.is_ready
    assert "kept" in names(cluster)
    assert not names(cluster) & {"between", "later"}
    # What was replaced is kept, and said.
    shown = node.succeed(["kubesolo-update", "datastore"]).text
    [aside] = [line.split()[-1] for line in shown.splitlines() if line.startswith("put aside")]
    said = f"datastore: .* put back; changes made since, under 0.1.0 too, are kept in {aside}/data"
    node.wait_console(said, since=since)
    assert int(node.succeed(f"ls {aside}/data/member/wal | wc -l").text) > 0
