"""Which certificates a node needs, without the cost of making them.

All keys are ECDSA P-256. Times are seconds since 1970, lifetimes seconds.
"""

from __future__ import annotations

import hashlib
import json
from typing import NamedTuple

from product.node.names import is_address

DAY = 86400
LEAF_LIFETIME = 365 * DAY
AUTHORITY_LIFETIME = 20 * 365 * DAY
# A leaf is renewed when a third of its life is left, an authority long before its leaves would
# outlive it.
LEAF_RENEWAL = LEAF_LIFETIME // 3
AUTHORITY_RENEWAL = 5 * 365 * DAY

SERVICE_RANGE = "10.96.0.0/16"
API_SERVICE = "10.96.0.1"

CLUSTER_AUTHORITY = "ca"
PROXY_AUTHORITY = "front-proxy-ca"
SERVICE_ACCOUNT = "service-account"
ADMIN_KUBECONFIG = "admin.kubeconfig"
ADMIN = "admin"
# Of the kubeconfig that an operator takes elsewhere.
OPERATOR = "operator"
# What cannot be made again without loss: certificates and tokens elsewhere hang on it.
IRREPLACEABLE = (CLUSTER_AUTHORITY, PROXY_AUTHORITY, SERVICE_ACCOUNT)
AUTHORITIES = {CLUSTER_AUTHORITY: "kubesolo-ca", PROXY_AUTHORITY: "kubesolo-front-proxy-ca"}


class Identity(NamedTuple):
    """What certificates depend on: the node's name and its IPv4 address, and by which names and
    addresses else its API server is asked."""

    node: str
    address: str
    sans: tuple[str, ...] = ()


class Leaf(NamedTuple):
    """One certificate: who signs it, whom it names, what it may be used for."""

    name: str
    authority: str
    common_name: str
    organization: str | None = None
    server: bool = False
    client: bool = False
    dns: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Changes with anything that the certificate says."""
        return hashlib.sha256(json.dumps(self).encode()).hexdigest()[:16]


def leaves(identity: Identity) -> tuple[Leaf, ...]:
    """Every certificate of a node."""
    node, address, sans = identity
    more = [name for name in sans if not is_address(name)]
    others = [name for name in sans if is_address(name)]
    masters = "system:masters"
    service = "kubernetes.default.svc"
    return (
        Leaf(
            "apiserver", CLUSTER_AUTHORITY, "kube-apiserver", server=True,
            dns=("kubernetes", "kubernetes.default", service, f"{service}.cluster.local",
                 "localhost", node, *more),
            addresses=(API_SERVICE, "127.0.0.1", address, *others),
        ),
        Leaf("apiserver-kubelet", CLUSTER_AUTHORITY, "kube-apiserver-kubelet-client", masters,
             client=True),
        Leaf("front-proxy", PROXY_AUTHORITY, "front-proxy-client", client=True),
        Leaf(ADMIN, CLUSTER_AUTHORITY, "kubernetes-admin", masters, client=True),
        Leaf(OPERATOR, CLUSTER_AUTHORITY, "kubernetes-operator", masters, client=True),
        # Without an account of its own for each controller it must be a master.
        Leaf("controller-manager", CLUSTER_AUTHORITY, "system:kube-controller-manager", masters,
             client=True),
        Leaf("scheduler", CLUSTER_AUTHORITY, "system:kube-scheduler", client=True),
        Leaf("proxy", CLUSTER_AUTHORITY, "system:kube-proxy", client=True),
        Leaf("dns", CLUSTER_AUTHORITY, "system:coredns", client=True),
        Leaf("kubelet", CLUSTER_AUTHORITY, f"system:node:{node}", "system:nodes", server=True,
             client=True, dns=(node,), addresses=("127.0.0.1", address)),
    )  # fmt: skip


def files(identity: Identity) -> tuple[str, ...]:
    """Names of all files that a complete set of certificates has."""
    pairs = [*AUTHORITIES, *(leaf.name for leaf in leaves(identity))]
    names = [f"{name}.{kind}" for name in pairs for kind in ("crt", "key")]
    return (*names, f"{SERVICE_ACCOUNT}.key", f"{SERVICE_ACCOUNT}.pub", ADMIN_KUBECONFIG)


def kubeconfig(authority: str, certificate: str, key: str, *, data: bool = False) -> bytes:
    """A kubeconfig for this node's API server, in JSON, which is YAML.

    The three are paths, or with ``data`` PEM text that is put in.
    """

    def field(name: str, value: str) -> dict[str, str]:
        if not data:
            return {name: value}
        from binascii import b2a_base64

        return {f"{name}-data": b2a_base64(value.encode(), newline=False).decode()}

    server = {"server": "https://127.0.0.1:6443", **field("certificate-authority", authority)}
    user = {**field("client-certificate", certificate), **field("client-key", key)}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "node", "cluster": server}],
        "users": [{"name": "user", "user": user}],
        "contexts": [{"name": "node", "context": {"cluster": "node", "user": "user"}}],
        "current-context": "node",
    }
    return (json.dumps(document, indent=1) + "\n").encode()
