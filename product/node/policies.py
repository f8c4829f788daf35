"""Which pods the API server admits, and what it writes into its audit log."""

from __future__ import annotations

from product.node import portainer
from product.node.settings import POD_SECURITY

PRIVILEGED, BASELINE, RESTRICTED = POD_SECURITY
# What is warned of is one level above what is refused.
_WARNED = {PRIVILEGED: BASELINE, BASELINE: RESTRICTED, RESTRICTED: RESTRICTED}
# What the image itself brings, and the project's own jobs, need the host's network or its files.
EXEMPT = ("kube-system", "local-path-storage", portainer.NAMESPACE, "kubesolo-updates")
ADMISSION_PLUGINS = ("NodeRestriction", "EventRateLimit")
# A program that makes events without end must not fill the datastore.
EVENTS_PER_SECOND, EVENTS_AT_ONCE = 50, 500

# Users whose reads are their work. None of them reads Secrets unseen.
_COMPONENTS = (
    "system:kube-controller-manager", "system:kube-scheduler", "system:kube-proxy",
    "system:coredns", "system:apiserver", "kubernetes-admin", "kube-apiserver-kubelet-client",
)  # fmt: skip
_READS = ("get", "list", "watch")
_WRITES = ("create", "update", "patch", "delete", "deletecollection")
_METADATA, _NONE = "Metadata", "None"


def admission(level: str) -> dict[str, object]:
    """The API server's admission configuration; ``level`` is enforced on pods of other namespaces.

    A namespace's own labels (pod-security.kubernetes.io) take the place of the default.
    """
    warned = _WARNED[level]
    defaults = {
        "enforce": level, "enforce-version": "latest",
        "audit": warned, "audit-version": "latest",
        "warn": warned, "warn-version": "latest",
    }  # fmt: skip
    pods = {
        "apiVersion": "pod-security.admission.config.k8s.io/v1",
        "kind": "PodSecurityConfiguration",
        "defaults": defaults,
        "exemptions": {"usernames": [], "runtimeClasses": [], "namespaces": list(EXEMPT)},
    }
    events = {
        "apiVersion": "eventratelimit.admission.k8s.io/v1alpha1",
        "kind": "Configuration",
        "limits": [{"type": "Server", "qps": EVENTS_PER_SECOND, "burst": EVENTS_AT_ONCE}],
    }
    return {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AdmissionConfiguration",
        "plugins": [
            {"name": "PodSecurity", "configuration": pods},
            {"name": "EventRateLimit", "configuration": events},
        ],
    }


def audit() -> dict[str, object]:
    """The audit policy; the first rule that fits a request counts.

    Nothing of a Secret's or a ConfigMap's content is written: Metadata says who did what to which.
    """
    rules: list[dict[str, object]] = [
        # Leases, events and a node's heartbeats are most of what a node at rest asks.
        {
            "level": _NONE,
            "resources": [
                {"group": "coordination.k8s.io", "resources": ["leases"]},
                {"group": "", "resources": ["events"]},
                {"group": "events.k8s.io", "resources": ["events"]},
            ],
        },
        {
            "level": _NONE,
            "userGroups": ["system:nodes"],
            "resources": [{"group": "", "resources": ["nodes/status", "pods/status"]}],
        },
        {
            "level": _METADATA,
            "resources": [
                {"group": "", "resources": ["secrets", "serviceaccounts/token"]},
                {"group": "authentication.k8s.io", "resources": ["tokenreviews"]},
            ],
        },
        # The kubelet reads the ConfigMaps of its pods again and again.
        {
            "level": _NONE,
            "userGroups": ["system:nodes"],
            "verbs": list(_READS),
        },
        {"level": _METADATA, "resources": [{"group": "", "resources": ["configmaps"]}]},
        # Whoever comes into a pod or through one.
        {
            "level": _METADATA,
            "resources": [
                {
                    "group": "",
                    "resources": [
                        "pods/exec", "pods/attach", "pods/portforward", "pods/proxy",
                        "pods/ephemeralcontainers", "services/proxy", "nodes/proxy",
                    ],
                }
            ],
        },
        # Who may do what, and what is asked before an object is taken: with the objects.
        {
            "level": "Request",
            "verbs": list(_WRITES),
            "resources": [
                {"group": "rbac.authorization.k8s.io"},
                {"group": "admissionregistration.k8s.io"},
            ],
            "omitManagedFields": True,
        },
        {
            "level": _NONE,
            "userGroups": ["system:nodes", "system:masters"],
            "resources": [{"group": "authorization.k8s.io"}],
        },
        {"level": _NONE, "users": list(_COMPONENTS), "verbs": list(_READS)},
        {
            "level": _NONE,
            "userGroups": [
                "system:serviceaccounts:kube-system", "system:serviceaccounts:local-path-storage"
            ],
            "verbs": list(_READS),
        },
        {
            "level": _NONE,
            "nonResourceURLs": ["/healthz*", "/livez*", "/readyz*", "/version", "/openapi*",
                                "/api", "/api/*", "/apis", "/apis/*", "/metrics"],
        },
        {"level": _METADATA},
    ]  # fmt: skip
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        # One line for a request, when it has been answered.
        "omitStages": ["RequestReceived", "ResponseStarted"],
        "rules": rules,
    }
