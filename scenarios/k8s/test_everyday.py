"""What people do with a cluster every day, on a Kubernetes of today."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from harness.pytest_plugin.scenario import scenario
from harness.target.node import Node
from scenarios.kubernetes import JUDGED, MACHINE, MANIFESTS, Cluster, begin
from scenarios.releases import Releases
from scenarios.steps import Update

pytestmark = pytest.mark.machine(**MACHINE)

Begin = Callable[..., Update]

BALANCED = """
apiVersion: v1
kind: Service
metadata: {name: balanced}
spec:
  type: LoadBalancer
  selector: {app: web}
  ports: [{port: 8085, targetPort: 80}]
"""
# Through the API server and the kubelet, as from an operator's machine.
FORWARD = """
{kubectl} port-forward deployment/web 18080:80 > /tmp/forward.log 2>&1 &
until page=$(wget -q -T 10 -O - http://127.0.0.1:18080/); do
    kill -0 $! || exit 1
    sleep 1
done
kill $!
echo "$page"
"""


@scenario()
def test_everyday_commands_work(node: Node) -> None:
    cluster = begin(node)
    web = (MANIFESTS / "nginx.yaml").read_text()
    # Validated by the API's documents, merged on either side.
    cluster.kubectl("apply", "-f", "-", stdin=web)
    cluster.rolled_out("web")
    again = cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=web)
    assert again.text.splitlines() == [
        "deployment.apps/web serverside-applied", "service/web serverside-applied"
    ]  # fmt: skip
    explained = cluster.kubectl("explain", "deployment.spec.replicas").text
    assert "FIELD: replicas <integer>" in explained, explained
    for version, key in (("v2", "swagger"), ("v3", "paths")):
        assert key in json.loads(cluster.kubectl("get", "--raw", f"/openapi/{version}").text)
    page = cluster.page(cluster.web)
    assert "GET / HTTP" in cluster.logs("deployment/web", namespace="default")
    ran = cluster.kubectl("exec", "deployment/web", "--", "/usr/sbin/nginx", "-v")
    assert b"nginx version" in ran.stderr
    asked = FORWARD.format(kubectl=" ".join(cluster.command))
    assert node.succeed(asked, seconds=120).text == page


@scenario()
def test_a_balanced_service_is_served_at_the_nodes_address(node: Node) -> None:
    cluster = begin(node)
    cluster.create("nginx")
    cluster.kubectl("create", "-f", "-", stdin=BALANCED)
    cluster.wait(
        "service/balanced", f"jsonpath={{.status.loadBalancer.ingress[0].ip}}={node.own_address}"
    )
    cluster.rolled_out("web")
    assert cluster.page(f"{node.own_address}:8085") == cluster.page(cluster.web)


@scenario()
def test_names_are_resolved_by_a_service_of_the_host(node: Node) -> None:
    cluster = begin(node)
    node.succeed("until sv status /run/service/cluster-dns | grep -q ^run; do sleep 1; done")
    cluster.create("nginx")
    address = cluster.web
    ask = "nslookup web.default.svc.cluster.local 169.254.20.10"
    assert address in cluster.said_in_a_pod("first", f"until {ask}; do sleep 1; done")
    # What it knows it goes on knowing while the API server is away.
    node.succeed("sv down /run/service/kubernetes", seconds=60)
    assert address in node.succeed(ask).text
    node.succeed("sv up /run/service/kubernetes")
    _ready_again(node, cluster)
    # One that died is started again, and knows the same names.
    node.succeed("kill -KILL $(pidof coredns)")
    node.succeed(f"until {ask} | grep -q {address}; do sleep 1; done", seconds=120)


def _ready_again(node: Node, cluster: Cluster) -> None:
    node.succeed("until [ -e /run/kubesolo/kubernetes/ready ]; do sleep 1; done", seconds=240)
    assert cluster.is_ready


COUNTED = "/var/lib/kubesolo/local-path-provisioner/*_default_counted/starts"


def _counted(node: Node, times: int) -> None:
    """Return when the container of the manifest ``claim`` has started so many times in all."""
    node.succeed(
        f"until [ $(cat {COUNTED} 2> /dev/null | wc -l) -ge {times} ]; do sleep 1; done",
        seconds=300,
    )


@scenario()
def test_a_claimed_volume_outlives_a_reboot_and_an_update(
    node: Node, releases: Releases, begin_after: Begin
) -> None:
    def claim(update: Update) -> None:
        cluster = Cluster(update.node)
        cluster.create("claim")
        cluster.wait("pod/counter", "condition=Ready")
        _counted(update.node, 1)

    update = begin_after(claim, releases.good, begin=begin, kube_system_settle="6")
    cluster = Cluster(node)
    node.reboot()
    node.wait_ready(seconds=JUDGED)
    _counted(node, 2)
    ready = update.install()
    assert (ready.version, ready.slot, ready.confirmed) == ("0.2.0", "B", True)
    _counted(node, 3)
    [volume] = cluster.get("persistentvolumes")["items"]
    assert volume["status"]["phase"] == "Bound"
    assert volume["spec"]["persistentVolumeReclaimPolicy"] == "Retain"


DENY = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress]
  ingress:
  - from: [{podSelector: {matchLabels: {run: friend}}}]
"""


@scenario()
def test_a_network_policy_holds_back_whom_it_does_not_name(node: Node) -> None:
    cluster = begin(node)
    # The image's objects are applied a moment after the first start.
    there = " ".join([*cluster.command, "-n kube-system get daemonset/kube-network-policies"])
    node.succeed(f"until {there}; do sleep 1; done", seconds=120)
    cluster.kubectl(
        "-n", "kube-system", "rollout", "status", "daemonset/kube-network-policies",
        "--timeout=240s", seconds=250,
    )  # fmt: skip
    cluster.create("nginx")
    cluster.rolled_out("web")
    ask = f"wget -q -T 10 -O - http://{cluster.web}/"
    cluster.said_in_a_pod("before", ask)
    cluster.kubectl("create", "-f", "-", stdin=DENY)
    # It counts a moment after it was made.
    patient = f"for i in $(seq 12); do {ask} > /dev/null || exit 0; sleep 2; done; exit 1"
    cluster.said_in_a_pod("stranger", patient)
    assert cluster.said_in_a_pod("friend", ask)
    # Who enforces it dies, and nobody gets in: it fails closed.
    node.succeed("kill -KILL $(pidof network-policies)")
    cluster.said_in_a_pod("late", f"! {ask}")


SETTINGS = "/etc/kubesolo/kubernetes.json"
# Started anew, it reads its settings.
RESTART = """
sv -w 30 down /run/service/kubernetes
rm -f /run/kubesolo/kubernetes/ready
sv up /run/service/kubernetes
"""
# Of a resource that is measured once a minute a rate needs two looks.
MEASURED = 300


def _told(node: Node, cluster: Cluster, **settings: bool) -> None:
    """Start Kubernetes with these settings."""
    named = {name.replace("_", "-"): value for name, value in settings.items()}
    node.put(json.dumps({"schema": 1, "settings": named}), SETTINGS, mode=0o600)
    node.succeed(RESTART, seconds=60)
    _ready_again(node, cluster)


@scenario()
def test_kubectl_top_answers_while_the_setting_asks_for_it(node: Node) -> None:
    cluster = begin(node)
    cluster.create("nginx")
    cluster.rolled_out("web")
    kubectl = " ".join(cluster.command)
    node.fail(f"{kubectl} top node")
    _told(node, cluster, metrics_server=True)
    # The kubelet is asked for the node's figures by an address that its certificate names.
    node.succeed(f"until {kubectl} top node; do sleep 2; done", seconds=MEASURED)
    [name, cores, _, memory, _] = cluster.kubectl("top", "node", "--no-headers").text.split()
    assert name == cluster.node_name
    assert cores.endswith("m"), cores
    assert int(memory.removesuffix("Mi")) > 100
    node.succeed(f"until {kubectl} top pod -l app=web; do sleep 2; done", seconds=MEASURED)
    [pod, *_] = cluster.kubectl("top", "pod", "-l", "app=web", "--no-headers").text.split()
    assert pod.startswith("web-")
    _told(node, cluster, metrics_server=False)
    gone = f"{kubectl} get apiservice v1beta1.metrics.k8s.io --ignore-not-found --output=name"
    node.succeed(f'while [ -n "$({gone})" ]; do sleep 1; done', seconds=120)
    cluster.wait("deployment/metrics-server", "delete", "-n", "kube-system")
    assert node.status().problems == []
