"""Portainer's Edge agent, by the names that KubeSolo gives its objects.

They are made where they are absent and never changed afterwards: Portainer may update its agent.
"""

from __future__ import annotations

from product.node.settings import Settings

NAMESPACE = "portainer"
IMAGE = "docker.io/portainer/agent:lts"
_NAME = "portainer-agent"
_ACCOUNT = "portainer-sa-clusteradmin"
_LABELS = {"app": _NAME}


def image(settings: Settings) -> str:
    """The agent's container image."""
    return settings.text("portainer-edge-image") or IMAGE


def objects(settings: Settings) -> list[dict[str, object]]:
    """The objects for the Edge id and key, none where the settings have neither.

    The Secret among them holds the key.
    """
    edge_id, key = settings.text("portainer-edge-id"), settings.text("portainer-edge-key")
    if edge_id is None or key is None:
        return []
    asynchronous = "true" if settings.values.get("portainer-edge-async") is True else "false"
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        _object("v1", "ServiceAccount", _ACCOUNT),
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "portainer-crb-clusteradmin"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "cluster-admin",
            },
            "subjects": [{"kind": "ServiceAccount", "name": _ACCOUNT, "namespace": NAMESPACE}],
        },
        {
            **_object("v1", "ConfigMap", "portainer-agent-edge"),
            "data": {"EDGE_ID": edge_id, "EDGE_INSECURE_POLL": "true", "EDGE_ASYNC": asynchronous},
        },
        {
            **_object("v1", "Secret", "portainer-agent-edge-key"),
            "type": "Opaque",
            "stringData": {"edge.key": key},
        },
        {
            **_object("v1", "Service", _NAME),
            "spec": {
                "clusterIP": "None",
                "selector": _LABELS,
                "ports": [
                    {"name": "agent", "port": 9001, "targetPort": 9001},
                    {"name": "http", "port": 80, "targetPort": 80},
                ],
            },
        },
        {
            **_object("apps/v1", "Deployment", _NAME),
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": _LABELS},
                "template": {"metadata": {"labels": _LABELS}, "spec": _pod(image(settings))},
            },
        },
    ]


def _pod(agent: str) -> dict[str, object]:
    pod_address = {"fieldRef": {"fieldPath": "status.podIP"}}
    key = {"secretKeyRef": {"name": "portainer-agent-edge-key", "key": "edge.key"}}
    return {
        "serviceAccountName": _ACCOUNT,
        "containers": [
            {
                "name": _NAME,
                "image": agent,
                "imagePullPolicy": "IfNotPresent",
                "env": [
                    {"name": "LOG_LEVEL", "value": "INFO"},
                    {"name": "EDGE", "value": "1"},
                    {"name": "AGENT_CLUSTER_ADDR", "value": _NAME},
                    {"name": "KUBERNETES_POD_IP", "valueFrom": pod_address},
                    {"name": "EDGE_KEY", "valueFrom": key},
                ],
                "envFrom": [{"configMapRef": {"name": "portainer-agent-edge"}}],
                "ports": [
                    {"containerPort": 9001, "protocol": "TCP"},
                    {"containerPort": 80, "protocol": "TCP"},
                ],
            }
        ],
    }


def _object(version: str, kind: str, name: str) -> dict[str, object]:
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": version, "kind": kind, "metadata": metadata}
