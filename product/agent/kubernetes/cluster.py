"""The Kubernetes of this node, as the health checks and the block label's gate ask for it.

Answers are (result, reason, subjects). A question that could not be asked because another part is
down has that part as its subject, so that a baseline does not excuse what was never seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from product.agent.errors import AgentError
from product.agent.kubernetes.api import ApiClient
from product.agent.kubernetes.containerd import ask_health
from product.agent.kubernetes.kubeconfig import read_kubeconfig
from product.agent.kubernetes.payload import Payload, read_payload
from product.agent.kubernetes.pods import (
    Object,
    PodWatch,
    as_of_boot,
    child,
    find_restless,
    objects,
    read_pods,
)
from product.agent.system.clock import timestamp
from product.agent.system.files import read_bounded

if TYPE_CHECKING:
    from product.agent.node import Node

Answer = tuple[str, str, tuple[str, ...]]

PASS = "pass"
FAIL = "fail"
API = "api_server"
NODE = "node"
PODS = "/api/v1/namespaces/kube-system/pods"


class ClusterError(AgentError):
    """The cluster does not know this node."""

    code = "node-unknown"


def find_cluster(node: Node) -> Cluster | None:
    """None where the image carries no Kubernetes. Raises PayloadError."""
    payload = read_payload(node.paths)
    return Cluster(node, payload.kubeconfig, payload) if payload else None


class Cluster:
    """One connection, and what was seen over it; not for threads."""

    def __init__(self, node: Node, kubeconfig: str, payload: Payload | None = None) -> None:
        self._node = node
        self._kubeconfig = kubeconfig
        self._payload = payload
        self._client: ApiClient | None = None
        self._api_problem: str | None = None
        self._node_problem: str | None = None
        self._watch = PodWatch()
        # Now, because the clock may be set later.
        self._booted = timestamp(node.clock.now() - node.clock.monotonic())
        self.settling = False

    def close(self) -> None:
        """Drop the connection; the next question makes another."""
        if self._client:
            self._client.close()
            self._client = None

    def labels(self, seconds: float) -> Object:
        """The labels of this node. Raises KubeconfigError, ApiError, ClusterError."""
        return child(child(self._own_node(seconds), "metadata"), "labels")

    def containerd(self, seconds: float) -> Answer:
        """Raises ContainerdError."""
        assert self._payload is not None
        return PASS, ask_health(self._payload.containerd, seconds), ()

    def api_server(self, seconds: float) -> Answer:
        """Whether it says that it is ready, to a client that it knows."""
        self._api_problem = None
        try:
            self._api().get("/readyz", seconds)
        except AgentError as error:
            self.close()
            self._api_problem = error.message
            return FAIL, error.message, ()
        return PASS, f"{self._api().address} is ready", ()

    def node_ready(self, seconds: float) -> Answer:
        """Whether this boot's kubelet has reported this node as Ready."""
        result, reason, subjects = self._node_ready(seconds)
        self._node_problem = None if result == PASS else reason
        return result, reason, subjects

    def _node_ready(self, seconds: float) -> Answer:
        if self._api_problem:
            return FAIL, "the API server is not ready", (API,)
        try:
            found = self._own_node(seconds)
        except ClusterError as error:
            return FAIL, error.message, (NODE,)
        except AgentError as error:
            self.close()
            return FAIL, error.message, (API,)
        name = child(found, "metadata").get("name")
        status = child(found, "status")
        reported = child(status, "nodeInfo").get("bootID")
        if reported and reported != self._node.boot.boot_id:
            # The API server remembers what the kubelet said before the reboot.
            return FAIL, f"the kubelet of {name} has not reported in this boot", (NODE,)
        for condition in objects(status.get("conditions")):
            if condition.get("type") == "Ready":
                if condition.get("status") == "True":
                    return PASS, f"node {name} is Ready", ()
                why = condition.get("message") or condition.get("reason")
                return FAIL, f"node {name} is not Ready: {why}", (NODE,)
        return FAIL, f"node {name} has no Ready condition", (NODE,)

    def kube_system(
        self, seconds: float, settle: float, restless: float, *, on_trial: bool = False
    ) -> Answer:
        """Whether every pod of kube-system has been well for ``settle`` seconds.

        With ``restless``, a pod that was restarted so many seconds ago is not well yet. With
        ``on_trial`` the time begins when the node is Ready and the pod was started in this boot:
        until then the API server knows of pods what the kubelet said before the reboot.
        """
        self.settling = False
        if self._api_problem:
            return FAIL, "the API server is not ready", (API,)
        if on_trial and self._node_problem:
            return FAIL, "the node is not Ready, so that its pods are unknown", (NODE,)
        try:
            pods = read_pods(self._api().get_json(PODS, seconds))
        except AgentError as error:
            self.close()
            return FAIL, error.message, (API,)
        if on_trial:
            pods = as_of_boot(pods, self._booted)
        faults = self._watch.look(pods, self._node.clock.monotonic(), settle)
        if restless:
            faults += find_restless(pods, self._node.clock.now(), restless)
        if faults:
            self.settling = all(fault.settling for fault in faults)
            reason = "; ".join(fault.reason for fault in faults)
            return FAIL, reason, tuple(sorted({fault.workload for fault in faults}))
        if not pods:
            return PASS, "kube-system has no pods", ()
        count = "the pod" if len(pods) == 1 else f"all {len(pods)} pods"
        since = f" for {settle:g} s" if settle else ""
        return PASS, f"{count} of kube-system: well{since}", ()

    def _api(self) -> ApiClient:
        if self._client is None:
            self._client = ApiClient(read_kubeconfig(self._kubeconfig))
        return self._client

    def _own_node(self, seconds: float) -> Object:
        """By its name, or the only one there is: a payload may have been told another name."""
        nodes = list(objects(self._api().get_json("/api/v1/nodes", seconds).get("items")))
        hostname = self._hostname()
        for found in nodes:
            if child(found, "metadata").get("name") == hostname:
                return found
        if len(nodes) == 1:
            return nodes[0]
        names = ", ".join(str(child(n, "metadata").get("name")) for n in nodes)
        raise ClusterError(f"no node is called {hostname}; there are: {names or 'none'}")

    def _hostname(self) -> str:
        """Kubernetes' names of nodes have no capitals."""
        path = self._node.paths.hostname
        try:
            return read_bounded(path, 256).decode("ascii", "replace").strip().lower()
        except (OSError, ValueError) as error:
            raise ClusterError(f"cannot read {path}: {error}") from None
