"""What each component of the ``upstream`` Kubernetes is told: configuration files and arguments.

All of it follows from the image and the node's identity, so it is made at every boot and lies in
memory. The components run in one process, by the plan that images/go/node/plan.go describes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import NamedTuple

from product.node import encryption, pki, policies
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
# Percent that the heap may grow between collections once the node is Ready. Before, nothing is
# collected below a limit (see the service's run script): that saves a tenth of a start.
GC_PERCENT = 60
DEBUG_LEVEL = "4"
# The kubelet's configuration, among the files.
KUBELET = "kubelet.json"
ENCRYPTION, ADMISSION, AUDIT = "encryption.json", "admission.json", "audit-policy.json"
# All certificates of the node have ECDSA keys. TLS 1.3 has suites of its own.
TLS_MINIMUM = "VersionTLS12"
TLS_SUITES = (
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
)  # fmt: skip
# The audit log's bounds: MiB of a file, older files (packed, a tenth of that), days.
AUDIT_MIB, AUDIT_FILES, AUDIT_DAYS = 4, 10, 30
NO_SETTINGS = Settings({})
NO_ENCRYPTION = encryption.Encryption()


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
    secrets: encryption.Encryption = NO_ENCRYPTION,
    pod_security: str = policies.PRIVILEGED,
) -> Configuration:
    """Everything for one node; ``datastore`` is etcd's directory."""
    kubelet = {**_kubelet(paths, identity, containerd), **_settings_of_kubelet(settings)}
    files = {
        KUBELET: _json(kubelet),
        ADMISSION: _json(policies.admission(pod_security)),
        AUDIT: _json(policies.audit()),
        "proxy.json": _json(_proxy(paths, identity)),
        **_kubeconfigs(paths, ("kubelet", "proxy", "controller-manager", "scheduler", "dns")),
    }
    more: dict[str, str] = {}
    if secrets.configuration is not None:
        files[ENCRYPTION] = secrets.configuration
        more["encryption-provider-config"] = f"{paths.config}/{ENCRYPTION}"
    return Configuration(files, _plan(paths, identity, datastore, containerd, settings, more))


def _kubeconfigs(paths: NodePaths, names: Iterable[str]) -> dict[str, bytes]:
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
    paths: NodePaths,
    identity: pki.Identity,
    datastore: str,
    containerd: str,
    settings: Settings,
    more: dict[str, str],
) -> str:
    p = paths.pki
    values = settings.values
    seconds = values.get("startup-timeout", API_SECONDS)
    profiling = "true" if values.get("pprof-server") is True else "false"
    apiserver = {**_apiserver(paths, identity), "profiling": profiling, **more}
    if values.get("audit-log") is not False:
        apiserver |= _audit(paths)
    debug = [f"verbosity {DEBUG_LEVEL}"] if values.get("debug") is True else []
    lines = [
        *debug,
        f"tls {p}/ca.crt {p}/admin.crt {p}/admin.key",
        f"gc-after-ready {GC_PERCENT}",
        _plan_line("etcd", _etcd(paths, datastore)),
        _plan_line("kube-apiserver", apiserver),
        f"wait https://127.0.0.1:6443/readyz {seconds}",
        f"wait unix://{containerd} {CONTAINERD_SECONDS}",
        _plan_line("kubelet", _kubelet_arguments(paths, identity)),
        # Once only: each question takes the API server time that the kubelet waits for.
        f"ready {identity.node} {READY_SECONDS} {paths.announcement} kubesolo: kubernetes ready",
        _plan_line("kube-controller-manager", _controller_manager(paths)),
        _plan_line("kube-scheduler", _scheduler(paths)),
        _plan_line("kube-proxy", {"config": f"{paths.config}/proxy.json"}),
        *_load_balancer(paths, identity, settings),
    ]
    return "\n".join(lines) + "\n"


def _plan_line(component: str, arguments: dict[str, str]) -> str:
    """A component and its arguments, as a plan has them."""
    return " ".join([component, *(f"--{name}={value}" for name, value in arguments.items())])


def _json(document: dict[str, object]) -> bytes:
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
        # What is counted for graphs that nobody draws wakes the datastore each minute.
        "etcd-count-metric-poll-period": "0",
        "etcd-db-metric-poll-interval": "0",
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
        "enable-admission-plugins": ",".join(policies.ADMISSION_PLUGINS),
        "admission-control-config-file": f"{paths.config}/{ADMISSION}",
        "service-account-lookup": "true",
        "tls-min-version": TLS_MINIMUM,
        "tls-cipher-suites": ",".join(TLS_SUITES),
        "allow-privileged": "true",
        "service-cluster-ip-range": pki.SERVICE_RANGE,
        # There is one API server: a lease that says it lives would be written every ten seconds.
        "endpoint-reconciler-type": "master-count",
        # The second lets API servers of several versions ask each other.
        "feature-gates": "APIServerIdentity=false,UnknownVersionInteroperabilityProxy=false",
    }


def _audit(paths: NodePaths) -> dict[str, str]:
    return {
        "audit-policy-file": f"{paths.config}/{AUDIT}",
        "audit-log-path": f"{paths.audit}/audit.log",
        "audit-log-maxsize": f"{AUDIT_MIB}",
        "audit-log-maxbackup": f"{AUDIT_FILES}",
        "audit-log-maxage": f"{AUDIT_DAYS}",
        "audit-log-compress": "true",
    }


def _controller_manager(paths: NodePaths) -> dict[str, str]:
    p = paths.pki
    return {
        "kubeconfig": f"{paths.config}/controller-manager.kubeconfig",
        # No volume of a node alone is attached from elsewhere.
        "controllers": "*,-persistentvolume-attach-detach-controller",
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
        # Of pods that have ended the oldest are removed. The default, 12,500, does not fit into the
        # memory of a small node.
        "terminated-pod-gc-threshold": "250",
        # It would serve its metrics alone, with a certificate made at every start.
        "secure-port": "0",
        "profiling": "false",
    }


def _scheduler(paths: NodePaths) -> dict[str, str]:
    return {
        "kubeconfig": f"{paths.config}/scheduler.kubeconfig",
        "leader-elect": "false",
        "secure-port": "0",
        "profiling": "false",
    }


def _load_balancer(paths: NodePaths, identity: pki.Identity, settings: Settings) -> list[str]:
    if settings.values.get("load-balancer") is False:
        return []
    arguments = {
        "kubeconfig": f"{paths.config}/controller-manager.kubeconfig",
        "address": settings.text("load-balancer-ip") or identity.address,
    }
    return [_plan_line("load-balancer", arguments)]


def _kubelet_arguments(paths: NodePaths, identity: pki.Identity) -> dict[str, str]:
    return {
        "config": f"{paths.config}/{KUBELET}",
        "kubeconfig": f"{paths.config}/kubelet.kubeconfig",
        "hostname-override": identity.node,
        "node-ip": identity.address,
        "root-dir": paths.kubelet,
    }


def _kubelet(paths: NodePaths, identity: pki.Identity, containerd: str) -> dict[str, object]:
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
        # The API server asks there, and nobody on the node's other networks.
        "address": identity.address,
        "tlsMinVersion": TLS_MINIMUM,
        "tlsCipherSuites": list(TLS_SUITES),
        "enableProfilingHandler": False,
        "enableDebugFlagsHandler": False,
        "tlsCertFile": f"{p}/kubelet.crt",
        "tlsPrivateKeyFile": f"{p}/kubelet.key",
        "readOnlyPort": 0,
        "containerRuntimeEndpoint": f"unix://{containerd}",
        "cgroupDriver": "cgroupfs",
        "failSwapOn": False,
        # The container runtime's filter of system calls, where a pod asks for no other or none.
        "seccompDefault": True,
        # A pod that forks for ever is not to take the node's own processes.
        "podPidsLimit": 4096,
        "enforceNodeAllocatable": [],
        "clusterDNS": [DNS_ADDRESS],
        "clusterDomain": DOMAIN,
        "resolvConf": "/etc/resolv.conf",
        "staticPodPath": paths.static_pods,
        "volumePluginDir": f"{paths.kubelet}/volumeplugins",
        # The same status is written seldom, to spare the disk.
        "nodeStatusUpdateFrequency": "10s",
        "nodeStatusReportFrequency": "1m",
        # The image's own are pinned: what is collected here, somebody pulled.
        "imageGCHighThresholdPercent": 88,
        "imageGCLowThresholdPercent": 80,
        "evictionHard": {
            "memory.available": "50Mi",
            "nodefs.available": "5%",
            "nodefs.inodesFree": "5%",
            "imagefs.available": "5%",
        },
        "evictionPressureTransitionPeriod": "30s",
        # On the data partition; the kubelet removes those of pods that are gone.
        "containerLogMaxSize": "4Mi",
        "containerLogMaxFiles": 3,
        "runtimeRequestTimeout": "10m",
        "rotateCertificates": False,
    }


def _settings_of_kubelet(settings: Settings) -> dict[str, object]:
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
        "bindAddress": identity.address,
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        # What the kernel chose for its memory stays.
        "conntrack": {
            "maxPerCore": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
    }
