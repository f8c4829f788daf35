"""A kubeconfig that works from elsewhere: the node's address instead of its loopback.

With the payload ``upstream`` it has a client certificate of its own, ``operator``; elsewhere it is
the payload's own kubeconfig with another server.
"""

from __future__ import annotations

import json
import os
import re

from product.agent.errors import AgentError
from product.agent.kubernetes.kubeconfig import Access, read_kubeconfig
from product.agent.system.files import read_bounded
from product.node import address, pki
from product.node.errors import NodeError
from product.node.names import is_address
from product.node.paths import NodePaths
from product.node.payload import Payload
from product.node.settings import read_settings

PORT = 6443
MAX_PEM = 64 * 1024
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


def remote_kubeconfig(paths: NodePaths, payload: Payload, server: str | None = None) -> bytes:
    """A kubeconfig in JSON, which is YAML, for ``server``: an address or name, with a port or not;
    by default the node's own address. It holds a secret.

    Raises NodeError where Kubernetes has made no certificates yet, or the node has no address.
    """
    where = _server(server) if server else f"{_bracketed(_own_address(paths))}:{PORT}"
    access = _access(paths, payload)
    node = _node_name(paths)
    name = f"{pki.OPERATOR}@{node}"
    user = {
        "client-certificate-data": _data(access.certificate),
        "client-key-data": _data(access.key),
    }
    if access.token and not access.certificate:
        user = {"token": access.token}
    cluster = {
        "server": f"https://{where}",
        "certificate-authority-data": _data(access.authority),
    }
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": node, "cluster": cluster}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": node, "context": {"cluster": node, "user": name}}],
        "current-context": node,
    }
    return (json.dumps(document, indent=1) + "\n").encode()


def unnamed(paths: NodePaths, payload: Payload, server: str) -> str | None:
    """A hint where the API server's certificate, does not name ``server``."""
    if not payload.ours:
        return None
    host = _server(server).rpartition(":")[0].strip("[]")
    identity = pki.Identity(
        _node_name(paths),
        _present(paths),
        read_settings(paths.settings).names("apiserver-extra-sans"),
    )
    leaf = next(leaf for leaf in pki.leaves(identity) if leaf.name == "apiserver")
    if host in (*leaf.dns, *leaf.addresses):
        return None
    return (
        f"the API server's certificate does not name {host}: add it to apiserver-extra-sans of the "
        "node's configuration"
    )


def _server(text: str) -> str:
    """``host:port``. Raises NodeError."""
    found = text.removeprefix("https://").rstrip("/")
    host, port = found, str(PORT)
    if match := re.fullmatch(r"\[([^\]]+)\](?::(\d{1,5}))?", found):
        host, port = match[1], match[2] or port
    elif not is_address(found) and (match := re.fullmatch(r"([^:]+):(\d{1,5})", found)):
        host, port = match[1], match[2]
    if not (is_address(host) or _HOST.fullmatch(host)) or not 0 < int(port) < 65536:
        raise NodeError(
            f"{text!r} is no server: an address or a name, with a port or without, was expected",
            hint="such as 192.168.1.20, node.example.com or node.example.com:6443",
        )
    return f"{_bracketed(host)}:{port}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _own_address(paths: NodePaths) -> str:
    found = _present(paths)
    if not found or found == address.UNCONNECTED:
        raise NodeError(
            "this node has no address that others could reach it by",
            hint="kubesolo-update status says what its network lacks; or name one by --server",
        )
    return found


def _present(paths: NodePaths) -> str:
    """That which Kubernetes runs with, else the configured one, else that of the default route."""
    return (
        _line(paths.address)
        or read_settings(paths.settings).text("node-ip")
        or address.present_address(paths)
        or ""
    )


def _access(paths: NodePaths, payload: Payload) -> Access:
    path = payload.kubeconfig
    own = f"{paths.pki}/{pki.OPERATOR}.crt"
    hint = "it is there once Kubernetes has started: kubesolo-update status says why it has not"
    try:
        if payload.ours and os.path.exists(own):
            texts = [
                read_bounded(f"{paths.pki}/{name}", MAX_PEM).decode("ascii")
                for name in ("ca.crt", f"{pki.OPERATOR}.crt", f"{pki.OPERATOR}.key")
            ]
            return Access("", 0, *texts)
        if not path:
            raise NodeError("this image's Kubernetes names no kubeconfig")
        return read_kubeconfig(path)
    except AgentError as error:
        raise NodeError(error.message, hint=hint) from None
    except (OSError, ValueError) as error:
        raise NodeError(f"there is no access to give away yet: {error}", hint=hint) from None


def _node_name(paths: NodePaths) -> str:
    return _line(paths.node_name) or _line(paths.hostname) or "kubesolo"


def _line(path: str) -> str:
    try:
        return read_bounded(path, 4096).decode("utf-8", "replace").strip()
    except (OSError, ValueError):
        return ""


def _data(text: str) -> str:
    from binascii import b2a_base64

    return b2a_base64(text.encode(), newline=False).decode()
