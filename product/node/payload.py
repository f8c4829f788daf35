"""What the image says of its Kubernetes: ``/usr/lib/kubesolo/payload.json``."""

from __future__ import annotations

import json
from typing import NamedTuple

from product.agent.system.files import read_bounded
from product.node.errors import PayloadError

SCHEMA = 1
MAX_BYTES = 64 * 1024


class Payload(NamedTuple):
    """The fields that the node's own set-up uses: absolute paths; ``images`` may be empty."""

    kind: str
    kubernetes: str
    containerd: str
    datastore: str
    datastore_service: str
    images: str
    kubeconfig: str = ""
    # Names of the settings that it takes; those of its kind where the image does not say.
    settings: tuple[str, ...] = ()

    @property
    def ours(self) -> bool:
        """Whether certificates, configuration and datastore are this project's own."""
        return self.kind == "upstream"


def read_payload(path: str) -> Payload:
    """Raises PayloadError."""
    try:
        document = json.loads(read_bounded(path, MAX_BYTES).decode())
    except FileNotFoundError:
        raise PayloadError(
            f"this image carries no Kubernetes: there is no {path}",
            hint="build it from a recipe with a payload, such as images/upstream.toml",
        ) from None
    except OSError as error:
        raise PayloadError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise PayloadError(f"{path} is garbage: {error}") from None
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise PayloadError(f"{path} is not of schema {SCHEMA}, which this version reads")
    datastore = document.get("datastore")
    if not isinstance(datastore, dict):
        raise PayloadError(f"{path} names no datastore")
    return Payload(
        _text(document, "kind", path),
        _text(document, "kubernetes", path),
        _text(document, "containerd", path),
        _text(datastore, "path", path),
        _text(datastore, "service", path),
        _text(document, "images", path, empty=True),
        _text(document, "kubeconfig", path, empty=True),
        _names(document, "settings", path),
    )


def _names(document: dict[str, object], key: str, path: str) -> tuple[str, ...]:
    value = document.get(key, [])
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise PayloadError(f"{path} has no usable {key}: {value!r}")
    return tuple(value)


def _text(document: dict[str, object], key: str, path: str, *, empty: bool = False) -> str:
    value = document.get(key, "" if empty else None)
    if not isinstance(value, str) or not (value or empty):
        raise PayloadError(f"{path} has no usable {key}: {value!r}")
    return value
