"""Kubernetes on a node, as an operator with kubectl sees it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.commands.channel import CompletedCommand
from harness.errors import CommandError, DeadlineError
from harness.target.node import Node
from scenarios import kubectl
from scenarios.set_up import set_up
from scenarios.steps import Update

# What a scenario's node has: enough for the payload, as small edge machines have it.
MACHINE: dict[str, Any] = {"cpus": 2, "memory_mib": 2048, "disk_size_mib": 6144}
MANIFESTS = Path(__file__).resolve().parents[1] / "fixtures" / "manifests"
# Where the container of the manifest ``store`` writes a line at each start.
STORE = "/var/lib/kubesolo/local/store/starts"
PAYLOAD = "/usr/lib/kubesolo/payload.json"
LOG = "/var/log/kubernetes/current"
# Where the cluster DNS listens.
DNS = "169.254.20.10"

# Seconds on a quiet machine; an emulated one starts a pod in ten.
KUBECTL = 60.0
ROLLOUT = 240.0


# Building these takes twenty seconds, which every fork would pay. The question may time out; what
# it began goes on. The cluster DNS knows nothing before it got its rights, once in a node's life.
SETTLE = f"""
{{kubectl}} get --raw /openapi/v2 > /dev/null 2>&1
until grep -q 'memory is collected at' {LOG}; do sleep 1; done
until nslookup kubernetes.default.svc.cluster.local {DNS} > /dev/null 2>&1; do sleep 1; done
"""


@set_up
def begin(node: Node) -> Cluster:
    """Begin on a node in slot A that is Ready and has its start behind it."""

    def prepare(maker: Node) -> None:
        maker.boot()
        maker.succeed(SETTLE.format(kubectl=" ".join(Cluster(maker).command)), seconds=300)

    ready = node.prepared("settled", prepare, inputs=Path(__file__).read_text())
    assert ready.slot == "A"
    return Cluster(node)


# Settings for a release that is to be judged beside a fault that was there before.
KNOWN_FAULT = {"kube_system_settle": "15", "auto_rollback_after": "1"}


def stage_beside_a_known_fault(update: Update) -> None:
    """One pod of kube-system fails, another is well, and the datastore's copy holds an object."""
    cluster = Cluster(update.node)
    cluster.create("known-fault")
    cluster.create("steady")
    cluster.kubectl("create", "configmap", "kept", "--from-literal=answer=42")
    cluster.wait_restarted("kube-system", "app=broken")
    update.stage()


# From the loader to the judgement of an emulated node.
JUDGED = 300.0


def trial(node: Node, seconds: float) -> str:
    """``healthcheck_deadline`` of a release that fails: longer on a slow host, as every deadline.

    There an API server that is busy with its start would not answer the last check.
    """
    return f"{node.deadline(seconds).seconds:.0f}"


def verdict(node: Node, since: int) -> str:
    """What the agent of the slot on trial made of it."""
    [said] = node.wait_console("kubesolo-update: (ready|rolled back) ", seconds=JUDGED, since=since)
    return str(said)


class Cluster:
    """kubectl on this host for ``node``'s cluster; ``command`` is one on the node itself."""

    def __init__(self, node: Node, *, on_node: bool = False) -> None:
        """``on_node``: also ``kubectl`` is that of the node, whose clock may be another one."""
        self.node = node
        self._on_node = on_node
        self.payload: dict[str, Any] = json.loads(node.get(PAYLOAD))
        # The home directory is read-only: without a cache every call would ask for all kinds anew.
        self.command = [
            "kubectl", "--kubeconfig", str(self.payload["kubeconfig"]), "--cache-dir=/run/kubectl"
        ]  # fmt: skip

    def kubectl(
        self, *arguments: str, stdin: str | None = None, seconds: float = KUBECTL
    ) -> CompletedCommand:
        """Run kubectl, which must succeed."""
        data = None if stdin is None else stdin.encode()
        if self._on_node:
            return self.node.succeed([*self.command, *arguments], stdin=data, seconds=seconds)
        path = str(self.payload["kubeconfig"])
        return kubectl.run(self.node, path, arguments, stdin=data, seconds=seconds)

    def create(self, manifest: str) -> None:
        """Create what ``fixtures/manifests/<manifest>.yaml`` holds."""
        text = (MANIFESTS / f"{manifest}.yaml").read_text()
        # Unlike apply it needs no OpenAPI document.
        self.kubectl("create", "--validate=false", "-f", "-", stdin=text)

    def delete(self, manifest: str) -> None:
        """Delete what it holds, and return when it is gone."""
        text = (MANIFESTS / f"{manifest}.yaml").read_text()
        self.kubectl("delete", "-f", "-", stdin=text, seconds=ROLLOUT)

    def get(self, *arguments: str) -> Any:
        """The parsed answer of ``kubectl get -o json``."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json").text)

    def rolled_out(self, deployment: str, *, namespace: str = "default") -> None:
        """Return when every replica of a Deployment is available."""
        limit = self.node.deadline(ROLLOUT).seconds
        self.kubectl(
            "-n", namespace, "rollout", "status", f"deployment/{deployment}",
            f"--timeout={limit:.0f}s", seconds=ROLLOUT + 10,
        )  # fmt: skip

    def wait(self, what: str, condition: str, *arguments: str, seconds: float = ROLLOUT) -> None:
        """``kubectl wait``: return when ``what`` has ``condition``."""
        limit = self.node.deadline(seconds).seconds
        self.kubectl(
            "wait", f"--for={condition}", what, *arguments, f"--timeout={limit:.0f}s",
            seconds=seconds + 10,
        )  # fmt: skip

    def logs(self, what: str, *, namespace: str) -> str:
        """What ``what`` has said so far.

        The kubelet asks the API server who may read it; on a busy node that fails now and then.
        """
        said: list[str] = []

        def read() -> bool:
            said.append(self.kubectl("-n", namespace, "logs", what).text)
            return True

        self._until(read, f"the log of {what}")
        return said[-1]

    def said_in_a_pod(self, name: str, script: str) -> str:
        """What a shell in a pod of its own says, which must succeed; the pod stays.

        It comes from the log: ``kubectl run -i`` loses what was said before it had attached.
        """
        self.kubectl(
            "run", name, "--image=kubesolo.io/busybox:1", "--image-pull-policy=Never",
            "--restart=Never", "--command", "--", "sh", "-c", script,
        )  # fmt: skip
        phases: list[str] = []

        def ended() -> bool:
            phases.append(self.get("pod", name)["status"]["phase"])
            return phases[-1] in ("Succeeded", "Failed")

        self._until(ended, f"the pod {name} to end")
        said = self.logs(name, namespace="default")
        if phases[-1] != "Succeeded":
            raise CommandError(
                f"expected success: {script} in the pod {name} failed and said {said}"
            )
        return said

    def wait_restarted(self, namespace: str, selector: str) -> None:
        """Return when a container of the selected pods has been started again."""

        def restarted() -> bool:
            pods = self.get("pods", "-n", namespace, "-l", selector)["items"]
            containers = [c for p in pods for c in p["status"].get("containerStatuses", [])]
            return any(container["restartCount"] > 0 for container in containers)

        self._until(restarted, f"a container of {selector} in {namespace} to restart")

    def lease_renewed(self, *, since: str) -> None:
        """Return when the kubelet has renewed its node's Lease after the second ``since``.

        That is UTC in ISO 8601 with a Z, which sorts behind the fractions of its second.
        """
        name = self.node_name

        def renewed() -> bool:
            lease = self.get("lease", "-n", "kube-node-lease", name)
            return str(lease["spec"].get("renewTime", "")) > since

        self._until(renewed, f"the Lease of {name} to be renewed after {since}")

    def _until(self, holds: Callable[[], bool], what: str) -> None:
        """Ask once a second, also while nobody answers. Raises DeadlineError.

        kubectl of this version waits for conditions only, and a watch ends with the API server.
        """
        deadline = self.node.deadline(ROLLOUT)
        last = "the answer was another"
        while True:
            try:
                if holds():
                    return
            except CommandError as error:
                last = str(error)
            if not deadline.remaining:
                raise DeadlineError(f"waited {deadline.seconds:.0f} s for {what}: {last}")
            time.sleep(1.0)

    def store_started(self, times: int) -> None:
        """Return when the container of the manifest ``store`` has started so many times in all.

        After a reboot the API server shows it Ready as it was before, until the kubelet looks.
        """
        self.node.succeed(
            f"until [ $(wc -l < {STORE}) -ge {times} ]; do sleep 1; done", seconds=ROLLOUT
        )

    @property
    def system_phases(self) -> dict[str, str]:
        """The phase of each pod of kube-system by its label ``app``."""
        items = self.get("pods", "-n", "kube-system")["items"]
        return {i["metadata"]["labels"].get("app", ""): i["status"]["phase"] for i in items}

    def page(self, address: str) -> str:
        """What the node is served there; a Service takes a moment longer than its pods."""
        ask = f"wget -q -T 10 -O - http://{address}/"
        return self.node.succeed(f'until page=$({ask}); do sleep 1; done; echo "$page"').text

    @property
    def web(self) -> str:
        """The Service's address of the manifest ``nginx``."""
        return str(self.get("service", "web")["spec"]["clusterIP"])

    @property
    def node_name(self) -> str:
        """The one Node object's name."""
        [item] = self.get("nodes")["items"]
        return str(item["metadata"]["name"])

    @property
    def is_ready(self) -> bool:
        """Whether the Node's Ready condition holds."""
        [item] = self.get("nodes")["items"]
        conditions = {c["type"]: c["status"] for c in item["status"]["conditions"]}
        return conditions.get("Ready") == "True"
