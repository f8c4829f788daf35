"""What each component of Kubernetes is told: its configuration files and its arguments.

All of it follows from the image and the node's identity, so it is made at every boot and lies in
memory. The values are those that were measured to work; see docs/experiments/.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import NamedTuple

from product.node import pki
from product.node.paths import NodePaths
from product.node.settings import Settings

POD_RANGE = "10.244.0.0/16"
# Where the cluster DNS listens; the service's run script gives it to the loopback device.
DNS_ADDRESS = "169.254.20.10"
DOMAIN = "cluster.local"
CONTAINERD = "/run/containerd/containerd.sock"
# Seconds. Long, because what is only slow would begin anew: an emulated node on a busy machine took
# more than 240 for its API server's first start.
ETCD_SECONDS = 300
API_SECONDS = 900
CONTAINERD_SECONDS = 300
READY_SECONDS = 300
# Building these documents costs the processors as much as the rest of the API server's start.
OPENAPI_SECONDS = 120
# As in containerd's configuration.
PAUSE_IMAGE = "kubesolo.io/pause:1"
# Percent that the heap may grow between collections once the node is Ready. Before, nothing is
# collected below a limit (see the service's run script): that saves a tenth of a start.
GC_PERCENT = 60
DEBUG_LEVEL = "4"
NO_SETTINGS = Settings({})


class Configuration(NamedTuple):
    """``files`` by name, under /run/kubesolo/kubernetes, and the plan for ``kubenode all``."""

    files: dict[str, bytes]
    plan: str


def configuration(
    paths: NodePaths,
    identity: pki.Identity,
    *,
    datastore: str,
    containerd: str = CONTAINERD,
    settings: Settings = NO_SETTINGS,
) -> Configuration:
    """Everything for one node; ``datastore`` is etcd's directory."""
    files = {
        "kubelet.json": json_document({**_kubelet(paths), **settings_of_kubelet(settings)}),
        "proxy.json": json_document(_proxy(paths, identity)),
        **kubeconfigs(paths, ("kubelet", "proxy", "controller-manager", "scheduler")),
    }
    debug = settings.values.get("debug") is True
    return Configuration(files, _plan(paths, identity, datastore, containerd, debug=debug))


def kubeconfigs(paths: NodePaths, names: Iterable[str]) -> dict[str, bytes]:
    """``NAME.kubeconfig`` for each, with what it names inside.

    Each of a component's hundred clients would read the files again.
    """
    found = {}
    for name in names:
        parts = [_read(f"{paths.pki}/{file}") for file in ("ca.crt", f"{name}.crt", f"{name}.key")]
        found[f"{name}.kubeconfig"] = pki.kubeconfig(*parts, data=True)
    return found


def _read(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read()


def _plan(
    paths: NodePaths, identity: pki.Identity, datastore: str, containerd: str, *, debug: bool
) -> str:
    p = paths.pki
    kubelet = _kubelet_arguments(paths, identity, containerd)
    if debug:
        # The components share one process, and one level of what they say.
        kubelet["v"] = DEBUG_LEVEL
    lines = [
        f"tls {p}/ca.crt {p}/admin.crt {p}/admin.key",
        f"openapi-delay {OPENAPI_SECONDS}",
        f"gc-after-ready {GC_PERCENT}",
        plan_line("etcd", _etcd(paths, datastore)),
        plan_line("kube-apiserver", _apiserver(paths, identity)),
        f"wait https://127.0.0.1:6443/readyz {API_SECONDS}",
        f"wait unix://{containerd} {CONTAINERD_SECONDS}",
        plan_line("kubelet", kubelet),
        # Once only: each question takes the API server time that the kubelet waits for.
        f"ready {identity.node} {READY_SECONDS} {paths.announcement} kubesolo: kubernetes ready",
        plan_line("kube-controller-manager", _controller_manager(paths)),
        plan_line("kube-scheduler", _scheduler(paths)),
        plan_line("kube-proxy", {"config": f"{paths.config}/proxy.json"}),
        plan_line("cluster-dns", _cluster_dns(paths)),
    ]
    return "\n".join(lines) + "\n"


def plan_line(component: str, arguments: dict[str, str]) -> str:
    """A component and its arguments, as a plan has them."""
    return " ".join([component, *(f"--{name}={value}" for name, value in arguments.items())])


def json_document(document: dict[str, object]) -> bytes:
    """A file of JSON that people can read."""
    return (json.dumps(document, indent=1) + "\n").encode()


def _etcd(paths: NodePaths, datastore: str) -> dict[str, str]:
    # A socket in a directory that root alone may enter: a pod in the host's network could reach a
    # port.
    return {
        "data-dir": datastore,
        "listen-client-urls": f"unix://{paths.etcd_socket}",
        "start-timeout": f"{ETCD_SECONDS}s",
    }


def _apiserver(paths: NodePaths, identity: pki.Identity) -> dict[str, str]:
    p = paths.pki
    return {
        "etcd-servers": f"unix://{paths.etcd_socket}",
        "advertise-address": identity.address,
        "secure-port": "6443",
        "anonymous-auth": "false",
        "tls-cert-file": f"{p}/apiserver.crt",
        "tls-private-key-file": f"{p}/apiserver.key",
        "client-ca-file": f"{p}/ca.crt",
        "kubelet-client-certificate": f"{p}/apiserver-kubelet.crt",
        "kubelet-client-key": f"{p}/apiserver-kubelet.key",
        "kubelet-certificate-authority": f"{p}/ca.crt",
        # A node's name need not resolve on the node itself.
        "kubelet-preferred-address-types": "InternalIP",
        "service-account-key-file": f"{p}/service-account.pub",
        "service-account-signing-key-file": f"{p}/service-account.key",
        "service-account-issuer": "https://kubernetes.default.svc",
        "requestheader-client-ca-file": f"{p}/front-proxy-ca.crt",
        "requestheader-allowed-names": "front-proxy-client",
        "requestheader-username-headers": "X-Remote-User",
        "requestheader-group-headers": "X-Remote-Group",
        "requestheader-extra-headers-prefix": "X-Remote-Extra-",
        "proxy-client-cert-file": f"{p}/front-proxy.crt",
        "proxy-client-key-file": f"{p}/front-proxy.key",
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "allow-privileged": "true",
        "service-cluster-ip-range": pki.SERVICE_RANGE,
        "endpoint-reconciler-type": "master-count",
        "profiling": "false",
        # Fairness between clients costs start-up time and has nobody to be fair to. Server-side
        # apply costs start-up time, too, and some of every write.
        "feature-gates": "APIPriorityAndFairness=false,ServerSideApply=false",
    }


def _controller_manager(paths: NodePaths) -> dict[str, str]:
    p = paths.pki
    return {
        **_access(f"{paths.config}/controller-manager.kubeconfig"),
        "leader-elect": "false",
        "use-service-account-credentials": "false",
        "service-account-private-key-file": f"{p}/service-account.key",
        "root-ca-file": f"{p}/ca.crt",
        "cluster-signing-cert-file": f"{p}/ca.crt",
        "cluster-signing-key-file": f"{p}/ca.key",
        "allocate-node-cidrs": "true",
        "cluster-cidr": POD_RANGE,
        "service-cluster-ip-range": pki.SERVICE_RANGE,
        "flex-volume-plugin-dir": f"{paths.kubelet}/volumeplugins",
        "bind-address": "127.0.0.1",
        "port": "0",
        "profiling": "false",
    }


def _scheduler(paths: NodePaths) -> dict[str, str]:
    return {
        **_access(f"{paths.config}/scheduler.kubeconfig"),
        "leader-elect": "false",
        "bind-address": "127.0.0.1",
        "port": "0",
        "profiling": "false",
    }


def _access(path: str) -> dict[str, str]:
    kinds = ("kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig")
    return dict.fromkeys(kinds, path)


def _kubelet_arguments(paths: NodePaths, identity: pki.Identity, containerd: str) -> dict[str, str]:
    return {
        "config": f"{paths.config}/kubelet.json",
        "kubeconfig": f"{paths.config}/kubelet.kubeconfig",
        # Without this image no pod starts: a kubelet that runs out of room must not remove it.
        "pod-infra-container-image": PAUSE_IMAGE,
        "container-runtime": "remote",
        "container-runtime-endpoint": f"unix://{containerd}",
        "hostname-override": identity.node,
        "node-ip": identity.address,
        "root-dir": paths.kubelet,
        "volume-plugin-dir": f"{paths.kubelet}/volumeplugins",
    }


def _kubelet(paths: NodePaths) -> dict[str, object]:
    p = paths.pki
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{p}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{p}/kubelet.crt",
        "tlsPrivateKeyFile": f"{p}/kubelet.key",
        "readOnlyPort": 0,
        "cgroupDriver": "cgroupfs",
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        "clusterDNS": [DNS_ADDRESS],
        "clusterDomain": DOMAIN,
        "resolvConf": "/etc/resolv.conf",
        "staticPodPath": paths.static_pods,
        # Every second before it is Ready; the same status is written seldom, to spare the disk.
        "nodeStatusUpdateFrequency": "10s",
        "nodeStatusReportFrequency": "1m",
        # The images came with the system and cannot be pulled again.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {
            "memory.available": "50Mi",
            "nodefs.available": "5%",
            "nodefs.inodesFree": "5%",
        },
        "evictionPressureTransitionPeriod": "30s",
        # On the data partition; the kubelet removes those of pods that are gone.
        "containerLogMaxSize": "4Mi",
        "containerLogMaxFiles": 3,
        "runtimeRequestTimeout": "10m",
        "rotateCertificates": False,
    }


def settings_of_kubelet(settings: Settings) -> dict[str, object]:
    """What the node's settings say to the kubelet."""
    values = settings.values
    found: dict[str, object] = {}
    if reserved := values.get("system-reserved"):
        found["systemReserved"] = reserved
    if cpus := values.get("reserved-cpus"):
        found["reservedSystemCPUs"] = cpus
    if policy := values.get("cpu-manager-policy"):
        found["cpuManagerPolicy"] = policy
    return found


def _proxy(paths: NodePaths, identity: pki.Identity) -> dict[str, object]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clientConnection": {"kubeconfig": f"{paths.config}/proxy.kubeconfig"},
        "clusterCIDR": POD_RANGE,
        "hostnameOverride": identity.node,
        # Also where it takes the node's address from: asking the API server costs seconds.
        "bindAddress": identity.address,
        "healthzBindAddress": "127.0.0.1:10256",
        # What the kernel chose for its memory stays.
        "conntrack": {
            "maxPerCore": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
    }


def _cluster_dns(paths: NodePaths) -> dict[str, str]:
    return {
        # Nobody else's may watch just Services and Endpoints.
        "kubeconfig": f"{paths.config}/proxy.kubeconfig",
        "bind-address": DNS_ADDRESS,
        "clients": POD_RANGE,
        "cluster-domain": DOMAIN,
    }
