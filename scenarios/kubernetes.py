"""Kubernetes on a node, as an operator with kubectl on the node itself sees it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.channel import CompletedCommand
from harness.node import Node
from product.image.tools import IMAGES

# The payload that the project proves itself with.
RECIPE = IMAGES / "debian.toml"
# What a scenario's node has: enough for the payload, as small edge machines have it.
MACHINE: dict[str, Any] = {"cpus": 2, "memory_mib": 2048, "disk_size_mib": 6144}
MANIFESTS = Path(__file__).resolve().parents[1] / "fixtures" / "manifests"
# Where the container of the manifest ``store`` writes a line at each start.
STORE = "/var/lib/kubesolo/local/store/starts"
PAYLOAD = "/usr/lib/kubesolo/payload.json"
LOG = "/var/log/kubernetes/current"

# Seconds on a quiet machine; an emulated one starts a pod in ten.
KUBECTL = 60.0
ROLLOUT = 240.0


# Building these takes twenty seconds, which every fork would pay. The question may time out; what
# it began goes on.
SETTLE = f"""
{{kubectl}} get --raw /openapi/v2 > /dev/null 2>&1
until grep -q 'memory is collected at' {LOG}; do sleep 1; done
"""


def begin(node: Node) -> Cluster:
    """Begin on a node in slot A that is Ready and has its start behind it."""

    def prepare(maker: Node) -> None:
        maker.boot()
        maker.succeed(SETTLE.format(kubectl=" ".join(Cluster(maker).command)), seconds=300)

    ready = node.prepared("settled", prepare, inputs=SETTLE)
    assert ready.slot == "A"
    return Cluster(node)


class Cluster:
    """kubectl on ``node``."""

    def __init__(self, node: Node) -> None:
        self.node = node
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
        return self.node.succeed([*self.command, *arguments], stdin=data, seconds=seconds)

    def create(self, manifest: str) -> None:
        """Create what ``fixtures/manifests/<manifest>.yaml`` holds."""
        text = (MANIFESTS / f"{manifest}.yaml").read_text()
        # Unlike apply it needs no OpenAPI document.
        self.kubectl("create", "--validate=false", "-f", "-", stdin=text)

    def get(self, *arguments: str) -> Any:
        """The parsed answer of ``kubectl get -o json``."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json").text)

    def rolled_out(self, deployment: str, *, namespace: str = "default") -> None:
        """Return when every replica of a Deployment is available."""
        limit = self.node.machine.deadline(ROLLOUT).seconds
        self.kubectl(
            "-n", namespace, "rollout", "status", f"deployment/{deployment}",
            f"--timeout={limit:.0f}s", seconds=ROLLOUT + 10,
        )  # fmt: skip

    def wait(self, what: str, condition: str, *arguments: str, seconds: float = ROLLOUT) -> None:
        """``kubectl wait``: return when ``what`` has ``condition``."""
        limit = self.node.machine.deadline(seconds).seconds
        self.kubectl(
            "wait", f"--for={condition}", what, *arguments, f"--timeout={limit:.0f}s",
            seconds=seconds + 10,
        )  # fmt: skip

    def wait_restarted(self, namespace: str, selector: str) -> None:
        """Return when a container of the selected pods has been started again."""
        path = "{.items[0].status.containerStatuses[0].restartCount}"
        ask = f"{' '.join(self.command)} -n {namespace} get pods -l {selector} -o jsonpath='{path}'"
        self.node.succeed(
            f'until count=$({ask} 2> /dev/null) && [ "${{count:-0}}" -gt 0 ]; do sleep 1; done',
            seconds=ROLLOUT,
        )

    def lease_renewed(self, *, since: str) -> None:
        """Return when the kubelet has renewed its node's Lease after the second ``since``.

        That is UTC in ISO 8601 with a Z, which sorts behind the fractions of its second.
        """
        ask = (
            f"{' '.join(self.command)} -n kube-node-lease get lease {self.node_name} "
            "-o jsonpath='{.spec.renewTime}'"
        )
        self.node.succeed(
            f'until at=$({ask}) && expr "$at" ">" "{since}" > /dev/null; do sleep 1; done',
            seconds=ROLLOUT,
        )

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
        return {i["metadata"]["labels"]["app"]: i["status"]["phase"] for i in items}

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
