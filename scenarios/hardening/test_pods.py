"""What pods do on a node whose mounts, kernel parameters and modules are hardened."""

from __future__ import annotations

import pytest

from harness.pytest_plugin.scenario import scenario
from harness.target.node import Node
from scenarios.hardening.node import ANY_POD, EVERYWHERE, mount_faults, refused, wait_locked
from scenarios.k8s.conftest import images, kubectl_program, releases
from scenarios.kubernetes import MACHINE, Cluster, begin

__all__ = ["images", "kubectl_program", "releases"]

pytestmark = pytest.mark.machine(**MACHINE)

# Of the image, for hardware that no machine here has.
ABSENT = "mpt3sas"
HOST_PORT = 8099
SERVED = f"""
apiVersion: v1
kind: Pod
metadata: {{name: served, labels: {{run: served}}}}
spec:
  containers:
  - name: web
    image: kubesolo.io/busybox:1
    imagePullPolicy: Never
    command: ["sh", "-c", "mkdir /w && echo served > /w/index.html && exec httpd -f -p 80 -h /w"]
    ports: [{{containerPort: 80, hostPort: {HOST_PORT}}}]
---
apiVersion: v1
kind: Service
metadata: {{name: served}}
spec:
  selector: {{run: served}}
  ports: [{{port: 80}}]
"""
FRIENDS = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: friends}
spec:
  podSelector: {matchLabels: {run: served}}
  ingress: [{from: [{podSelector: {matchLabels: {run: friend}}}]}]
"""
# Runs programs from the volumes that a pod may have, the last one as a user namespace's root.
VOLUMES = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  hostUsers: {host_users}
  restartPolicy: Never
  containers:
  - name: copies
    image: kubesolo.io/busybox:1
    imagePullPolicy: Never
    command: ["sh", "-ec", "for d in /empty /host; do cp /bin/busybox $d/; $d/busybox true; done"]
    volumeMounts: [{{name: empty, mountPath: /empty}}, {{name: host, mountPath: /host}}]
  volumes:
  - {{name: empty, emptyDir: {{}}}}
  - {{name: host, hostPath: {{path: /var/lib/kubesolo/local/{name}, type: DirectoryOrCreate}}}}
"""
PRIVILEGED = f"""
apiVersion: v1
kind: Pod
metadata: {{name: privileged}}
spec:
  restartPolicy: Never
  containers:
  - name: root
    image: kubesolo.io/busybox:1
    imagePullPolicy: Never
    securityContext: {{privileged: true}}
    command:
    - sh
    - -c
    - busybox insmod $(find /modules -name {ABSENT}.ko) 2>&1 || echo refused
    volumeMounts: [{{name: modules, mountPath: /modules, readOnly: true}}]
  volumes: [{{name: modules, hostPath: {{path: /usr/lib/modules}}}}]
"""


@scenario()
def test_pods_run_as_ever_and_none_loads_a_module(node: Node) -> None:
    cluster = begin(node)
    wait_locked(node)
    faults = mount_faults(node.get("/proc/self/mounts").decode(), EVERYWHERE | {"Kubernetes"})
    assert faults == []
    cluster.kubectl("label", "--overwrite", "namespace", "default", ANY_POD)
    _network(cluster)
    for name, host_users in (("volumes", "true"), ("own-users", "false")):
        text = VOLUMES.format(name=name, host_users=host_users)
        cluster.kubectl("create", "-f", "-", stdin=text)
        cluster.wait(f"pod/{name}", "jsonpath={.status.phase}=Succeeded")
    # Nothing of that asked for a module that was not there.
    assert refused(node) == []
    cluster.kubectl("create", "-f", "-", stdin=PRIVILEGED)
    cluster.wait("pod/privileged", "jsonpath={.status.phase}=Succeeded")
    said = cluster.logs("pod/privileged", namespace="default")
    assert "Operation not permitted" in said, said
    assert said.endswith("refused"), said
    node.fail(f"grep -q '^{ABSENT} ' /proc/modules")
    assert node.status().problems == []


def _network(cluster: Cluster) -> None:
    """A Service, a port of the host and a network policy of a pod that starts after the lock."""
    cluster.kubectl("create", "-f", "-", stdin=SERVED)
    cluster.wait("pod/served", "condition=Ready")
    address = cluster.get("service", "served")["spec"]["clusterIP"]
    ask = f"wget -q -T 10 -O - http://{address}/"
    assert (
        cluster.page(f"{cluster.node.own_address}:{HOST_PORT}") == cluster.page(address) == "served"
    )
    cluster.kubectl("create", "-f", "-", stdin=FRIENDS)
    # It counts a moment after it was made.
    patient = f"for i in $(seq 12); do {ask} > /dev/null || exit 0; sleep 2; done; exit 1"
    cluster.said_in_a_pod("stranger", patient)
    assert cluster.said_in_a_pod("friend", ask).strip() == "served"
