"""The Kubernetes that the image carries: ``/usr/lib/kubesolo/payload.json``.

docs/decisions/0005-kubernetes-payload.md lists the fields; those that only other parts of the
system read are not looked at here.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from product.agent.errors import AgentError
from product.agent.system.files import read_bounded
from product.agent.system.paths import Paths

SCHEMA = 1
MAX_BYTES = 64 * 1024
HINT = "the image is damaged, or its payload is newer than this agent: apply another release"


class PayloadError(AgentError):
    """The image says of its Kubernetes what nobody can use."""

    code = "payload-unusable"


class Payload(NamedTuple):
    """``kubeconfig``, ``containerd`` and ``datastore`` are absolute paths; ``writer`` is the
    service that writes ``datastore``."""

    kind: str
    version: str
    kubernetes: str
    kubeconfig: str
    containerd: str
    datastore: str
    writer: str

    @property
    def minor(self) -> tuple[int, int]:
        """Kubernetes' major and minor version."""
        return parse_minor(self.kubernetes)


def parse_minor(version: str) -> tuple[int, int]:
    """``v1.20.2`` is (1, 20). Raises PayloadError."""
    parts = version.removeprefix("v").split(".")
    if len(parts) < 2 or not all(p.isascii() and p.isdigit() and len(p) <= 9 for p in parts[:2]):
        raise PayloadError(f"{version!r} is not a version of Kubernetes", hint=HINT)
    return int(parts[0]), int(parts[1])


def read_payload(paths: Paths) -> Payload | None:
    """None where the image carries no Kubernetes. Raises PayloadError."""
    path = paths.payload
    try:
        document = json.loads(read_bounded(path, MAX_BYTES).decode())
        return _parse(document, paths)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise PayloadError(f"cannot read {path}: {error.strerror}", hint=HINT) from None
    except (ValueError, RecursionError) as error:
        raise PayloadError(f"{path} is no description of a payload: {error}", hint=HINT) from None
    except PayloadError as error:
        raise PayloadError(f"{path}: {error.message}", hint=HINT) from None


def _parse(document: object, paths: Paths) -> Payload:
    if not isinstance(document, dict):
        raise ValueError("it is not a JSON object")
    if document.get("schema") != SCHEMA:
        raise ValueError(f"schema is {document.get('schema')!r}, this agent knows {SCHEMA}")
    datastore = document.get("datastore")
    if not isinstance(datastore, dict):
        raise ValueError("datastore is not an object of path and service")
    kubeconfig = document.get("kubeconfig")
    payload = Payload(
        kind=_text(document, "kind"),
        version=_text(document, "version"),
        kubernetes=_text(document, "kubernetes"),
        kubeconfig=paths.kubeconfig if not kubeconfig else _path(document, "kubeconfig", paths),
        containerd=_path(document, "containerd", paths),
        datastore=_path(datastore, "path", paths),
        writer=_text(datastore, "service"),
    )
    if payload.writer.startswith(".") or "/" in payload.writer:
        raise ValueError(f"service is {payload.writer!r}, not the name of a service")
    parse_minor(payload.kubernetes)
    return payload


def _text(document: dict[str, object], key: str) -> str:
    value = document.get(key)
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError(f"{key} is {value!r:.100}, not a text")
    return value


def _path(document: dict[str, object], key: str, paths: Paths) -> str:
    value = _text(document, key)
    if not value.startswith("/") or ".." in value.split("/") or value.strip("/") == "":
        raise ValueError(f"{key} is {value!r:.100}, not an absolute path")
    return paths.under(value.rstrip("/"))
