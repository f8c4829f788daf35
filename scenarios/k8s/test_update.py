"""Updates of a node that runs Kubernetes: the cluster is among the judges."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from harness.pytest_plugin.scenario import scenario
from harness.target.node import Node
from product.manifests import render
from scenarios.kubernetes import (
    JUDGED,
    KNOWN_FAULT,
    MACHINE,
    PAYLOAD,
    STORE,
    Cluster,
    begin,
    stage_beside_a_known_fault,
    trial,
    verdict,
)
from scenarios.releases import Releases
from scenarios.steps import CONF_PATH, REFUSED, Update, configure, failed_for

pytestmark = pytest.mark.machine(**MACHINE)

Begin = Callable[..., Update]

# A short settle time: the checks are the same.
SETTLE = "6"
# What runs is another minor version, newer than any, as far as the agent can tell.
NEWER_THAN_OFFERED = f"""
sed 's/"kubernetes": "1\\.[0-9]*\\.[0-9]*"/"kubernetes": "1.99.0"/' {PAYLOAD} > /run/payload.json
grep -q 1.99.0 /run/payload.json && mount --bind /run/payload.json {PAYLOAD}
"""


def run_pods(update: Update) -> None:
    """Pods of each kind, whose start the update has not to wait for."""
    node = update.node
    cluster = Cluster(node)
    for manifest in ("nginx", "steady", "store"):
        cluster.create(manifest)
    cluster.kubectl("create", "configmap", "kept", "--from-literal=answer=42")
    cluster.rolled_out("web")
    cluster.rolled_out("steady", namespace="kube-system")
    cluster.wait("pod/store", "condition=Ready")
    assert node.succeed(f"cat {STORE}").text == "started"


@scenario()
def test_the_cron_job_updates_the_node_while_pods_run(
    node: Node, releases: Releases, begin_after: Begin
) -> None:
    """Nobody is logged in: the schedule starts a pod, the pod asks the host.

    Before, a newer Kubernetes refuses the release, and the node's label does. What pods store on
    the node is there after the reboot, and with all of them the stop is within its time.
    """
    update = begin_after(run_pods, releases.good, begin=begin, kube_system_settle=SETTLE)
    cluster = Cluster(node)
    page = cluster.page(cluster.web)
    node.succeed(NEWER_THAN_OFFERED)
    update.refused("kubernetes_downgrade", exit=REFUSED)
    node.succeed(f"umount {PAYLOAD}")
    cluster.kubectl("label", "node", cluster.node_name, "updates.kubesolo.io/block=true")
    update.refused("node_block_label", exit=REFUSED)
    cluster.kubectl("label", "node", cluster.node_name, "updates.kubesolo.io/block-")
    # The ConfigMap says where releases are.
    node.succeed(["sed", "-i", "s,^server=.*,server=http://127.0.0.1:1,", CONF_PATH])
    version = cluster.payload["kubernetes"]
    manifests = render("updates", kubernetes=version, server=update.server.url)
    since = node.journal.cursor
    with node.expect_boots(1, seconds_each=180) as boots:
        cluster.kubectl("apply", "--validate=false", "-f", "-", stdin=manifests)
        # The next minute, which need not be waited for, and once an hour: each further pod would
        # ask the node again.
        minute = int(node.succeed("date +%s").text) // 60 + 1
        cluster.kubectl(
            "-n", "kubesolo-updates", "patch", "cronjob", "kubesolo-update",
            "--patch", json.dumps({"spec": {"schedule": f"{minute % 60} * * * *"}}),
        )  # fmt: skip
        node.succeed(f"date -s @{minute * 60 - 5}")
    # No service had to be killed, and of the pods those that do not hear SIGTERM.
    node.wait_console("kubesolo: stage stopped", since=since)
    killed = [event.text for event in node.journal.events(since) if "the stop" in event.text]
    assert [text.rstrip().partition("the stop: ")[2] for text in killed] == [
        "killed in pods: sleep"
    ]
    ready = node.wait_ready(seconds=JUDGED)
    assert boots.slots == ["B"]
    assert (ready.version, ready.slot, ready.confirmed) == ("0.2.0", "B", True)
    assert cluster.is_ready
    # The verdict had a pod of kube-system to judge.
    checks = {check["name"]: check for check in node.status().last_boot_check.health}
    assert checks["kube_system"]["result"] == "pass", checks["kube_system"]
    assert cluster.system_phases["steady"] == "Running"
    assert cluster.get("configmap", "kept")["data"] == {"answer": "42"}
    cluster.rolled_out("web")
    assert cluster.page(cluster.web) == page
    cluster.store_started(2)
    assert node.succeed(f"cat {STORE}").text.split() == ["started", "started"]
    cluster.wait("pod/store", "condition=Ready")
    # After the boot a Job has the node judge itself once more.
    cluster.kubectl(
        "create", "--validate=false", "-f", "-", stdin=render("healthcheck", kubernetes=version)
    )
    job = "job/kubesolo-healthcheck"
    cluster.wait(job, "condition=Complete", "-n", "kubesolo-updates")
    said = cluster.logs(job, namespace="kubesolo-updates")
    assert "done" in said.split(), said
    assert re.search(r"kube_system: pass .(the pod|all \d+ pods) of kube-system: well for", said), (
        said
    )
    [pod, *_] = cluster.get("pods", "-n", "kubesolo-updates")["items"]
    assert "hostPID" not in pod["spec"]
    assert pod["spec"]["containers"][0]["securityContext"]["privileged"] is False


def stage_with_a_configmap(update: Update) -> None:
    """Written before the release is staged, and so in the datastore's copy."""
    Cluster(update.node).kubectl("create", "configmap", "kept", "--from-literal=answer=42")
    update.stage()


@scenario()
def test_a_release_whose_kubelet_cannot_start_rolls_back(
    node: Node, releases: Releases, begin_after: Begin
) -> None:
    release = releases.broken("kubelet-cannot-start")
    begin_after(stage_with_a_configmap, release, begin=begin, auto_rollback_after="1")
    cluster = Cluster(node)
    configure(node, healthcheck_deadline=trial(node, 90))
    armed = node.journal.cursor
    with node.expect_boots(2) as boots:
        node.reboot()
        assert verdict(node, node.journal.cursor) == "rolled back"
    ready = node.wait_ready(seconds=JUDGED)
    assert boots.slots == ["B", "A"]
    failed_for(boots, "1 failed health check of 0.2.1: .*node_ready: ", times=1)
    assert (ready.version, ready.confirmed) == ("0.1.0", True)
    error = node.status().update.last_error
    assert error.startswith("rolled back: 1 failed health check of 0.2.1: "), error
    assert "node_ready" in error, error
    # It was the kubelet alone.
    node.wait_console(r"Kubernetes ended by itself \(kubelet, ", since=armed)
    assert cluster.is_ready
    assert cluster.get("configmap", "kept")["data"] == {"answer": "42"}


@scenario()
def test_neither_a_known_fault_nor_a_killed_api_server_is_blamed(
    node: Node, releases: Releases, begin_after: Begin
) -> None:
    """One system pod failed before the update; while another settles, the API server dies."""
    begin_after(stage_beside_a_known_fault, releases.good, begin=begin, **KNOWN_FAULT)
    cluster = Cluster(node)
    with node.expect_boots(1) as boots:
        node.reboot()
        since = node.journal.cursor
    node.target.channel.wait_up(node.deadline(JUDGED))
    node.wait_console("kubesolo: kubernetes ready", seconds=JUDGED, since=since)
    service = cluster.payload["services"][-1]
    before = node.journal.cursor
    killed = node.succeed(
        f"kill -9 $(cat /run/service/{service}/supervise/pid) && date -u +%Y-%m-%dT%H:%M:%SZ"
    ).text
    assert verdict(node, before) == "ready"
    ready = node.wait_ready(seconds=JUDGED)
    assert boots.slots == ["B"]
    assert ready.confirmed
    checks = {check["name"]: check for check in node.status().last_boot_check.health}
    assert checks["kube_system"]["result"] == "known", checks["kube_system"]
    # The kubelet began anew, too: its lease is the first thing that it renews.
    cluster.lease_renewed(since=killed)
    cluster.wait(f"node/{cluster.node_name}", "condition=Ready")
