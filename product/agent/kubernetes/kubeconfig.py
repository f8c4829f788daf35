"""Reading a kubeconfig: where the API server is, and what proves either side to the other.

Kubeconfigs are YAML. The ones that this system writes are JSON, which is YAML as well and needs no
parser but the standard library's; for others, PyYAML is imported if the image has it.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from product.agent.errors import AgentError
from product.agent.system.files import read_bounded

MAX_BYTES = 256 * 1024


class KubeconfigError(AgentError):
    """There is no kubeconfig, or it does not lead to an API server."""

    code = "kubeconfig-unusable"


class Access(NamedTuple):
    """``authority``, ``certificate`` and ``key`` are PEM; a ``token`` may stand for the latter
    two."""

    host: str
    port: int
    authority: str
    certificate: str = ""
    key: str = ""
    token: str = ""


def read_kubeconfig(path: str) -> Access:
    """The access that the current context gives. Raises KubeconfigError."""
    try:
        text = read_bounded(path, MAX_BYTES).decode()
    except FileNotFoundError:
        raise KubeconfigError(f"there is no kubeconfig at {path}") from None
    except OSError as error:
        raise KubeconfigError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise KubeconfigError(f"{path} is no kubeconfig: {error}") from None
    try:
        document = load_yaml(text)
        if not isinstance(document, dict):
            raise ValueError("it is not a mapping")
        return _access(document)
    except (ValueError, TypeError, RecursionError) as error:
        raise KubeconfigError(f"{path} is no usable kubeconfig: {error}") from None


def load_yaml(text: str) -> object:
    """The document, JSON or YAML. Raises ValueError, RecursionError."""
    problem = "it is YAML, and the image has no python3-yaml"
    if text.lstrip().startswith("{"):
        try:
            return json.loads(text)
        except ValueError as error:
            problem = str(error)
    from importlib import import_module

    try:
        yaml = import_module("yaml")
    except ImportError:
        raise ValueError(problem) from None
    try:
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None


def _access(document: dict[str, object]) -> Access:
    context = _named(document, "contexts", document.get("current-context"), "context")
    cluster = _named(document, "clusters", context.get("cluster"), "cluster")
    user = _named(document, "users", context.get("user"), "user")
    host, port = _address(cluster.get("server"))
    if cluster.get("insecure-skip-tls-verify"):
        raise ValueError("it asks not to verify the server, which the agent does not do")
    authority = _pem(cluster, "certificate-authority")
    if not authority:
        raise ValueError("the cluster has no certificate-authority")
    certificate, key = _pem(user, "client-certificate"), _pem(user, "client-key")
    token = user.get("token") or ""
    if not (certificate and key) and not (token and isinstance(token, str)):
        raise ValueError("the user has neither client-certificate and client-key nor a token")
    if cluster.get("tls-server-name") not in (None, "", host):
        raise ValueError("it has a tls-server-name, which the agent does not know")
    return Access(host, port, authority, certificate, key, str(token))


def _named(document: dict[str, object], kind: str, name: object, field: str) -> dict[str, object]:
    entries = document.get(kind)
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and entry.get("name") == name and name:
            value = entry.get(field)
            if isinstance(value, dict):
                return value
    raise ValueError(f"{kind} has no {name!r}")


def _address(server: object) -> tuple[str, int]:
    """Without urllib.parse, which costs the node more than this needs."""
    if not isinstance(server, str) or not server.startswith("https://"):
        raise ValueError(f"server is {server!r:.100}, not an https address")
    place = server.removeprefix("https://").partition("/")[0]
    host, colon, port = place.rpartition(":")
    if not colon or host.startswith("[") != host.endswith("]"):
        host, port = place, "443"
    if ":" in host and not host.startswith("["):
        raise ValueError(f"server is {server!r:.100}: an IPv6 address stands in brackets")
    if not host or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"server is {server!r:.100}, which names no host and port")
    return host.strip("[]"), int(port)


def _pem(entry: dict[str, object], key: str) -> str:
    """The data that stands in the file, or in the file that it names; empty without either."""
    data, path = entry.get(f"{key}-data"), entry.get(key)
    if isinstance(data, str) and data:
        from binascii import Error, a2b_base64

        try:
            return a2b_base64(data.encode(), strict_mode=True).decode("ascii")
        except (Error, ValueError):
            raise ValueError(f"{key}-data is not a PEM in base64") from None
    if isinstance(path, str) and path:
        try:
            return read_bounded(path, MAX_BYTES).decode("ascii")
        except OSError as error:
            raise ValueError(f"{key}: cannot read {path}: {error.strerror}") from None
    return ""
