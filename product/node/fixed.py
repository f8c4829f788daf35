"""What an operator's file must leave as the image has it.

``payload.json`` tells the agent where containerd's socket and the datastore lie. A file that moves
them would have the agent ask the wrong ones, so Kubernetes is not started by it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from product.agent.kubernetes.kubeconfig import load_yaml
from product.agent.system.files import read_bounded
from product.node.errors import NodeError

MAX_BYTES = 1 << 20


def require_fixed(image: str, own: str, keys: Sequence[str]) -> None:
    """Compare two YAML files; each of ``keys`` is ``KEY=DEFAULT``, KEY's parts joined by dots.

    Raises NodeError that names the first key that ``own`` changes.
    """
    document, settings = _read(image), _read(own)
    for key, _, default in (entry.partition("=") for entry in keys):
        (*_, expected) = (default, *_values(document, key))
        # Kubernetes' readers do not tell capitals in keys apart, so there may be several.
        for found in _values(settings, key) or [default]:
            if _plain(found) != _plain(expected):
                raise NodeError(
                    f"{own} has {key} {found!r}, which this image fixes as {expected!r}: "
                    "nothing is started by it",
                    hint=f"take {key} out, or build an image with it",
                )


def _read(path: str) -> object:
    try:
        return load_yaml(read_bounded(path, MAX_BYTES).decode())
    except OSError as error:
        raise NodeError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise NodeError(f"{path} is no usable YAML: {error}") from None


def _values(document: object, key: str) -> list[object]:
    """What ``key`` stands for; null is as good as nothing."""
    found = [document]
    for part in key.lower().split("."):
        found = [value for each in found for value in _children(each, part)]
    return [value for value in found if value is not None]


def _children(document: object, name: str) -> Iterator[object]:
    if isinstance(document, dict):
        yield from (value for key, value in document.items() if str(key).lower() == name)


def _plain(value: object) -> str:
    """Two spellings of one path are the same."""
    return str(value).removeprefix("unix://").rstrip("/")
