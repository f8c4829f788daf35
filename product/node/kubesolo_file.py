"""`kubesolo-node settings BASE TARGET`: KubeSolo's own file with the node's settings in it."""

from __future__ import annotations

import json
import os

from product.agent.kubernetes.kubeconfig import load_yaml
from product.agent.system.files import read_bounded
from product.node.console import Reporter
from product.node.errors import NodeError
from product.node.kubesolo_limits import startable
from product.node.machine import read_machine
from product.node.paths import NodePaths
from product.node.settings import KINDS, OF_KUBESOLO, Setting, read_settings

MAX_BYTES = 1 << 20
# What KubeSolo's file spells otherwise than its flag.
_MODES = {"auto": None, "true": True, "false": False}


def write_file(paths: NodePaths, base: str, target: str, reporter: Reporter) -> None:
    """Write ``target`` (0600): the file ``base`` with the settings of kubernetes.json over it.

    What cannot be used of the settings is a problem that is said. Raises NodeError for a ``base``
    that is no YAML.
    """
    machine = read_machine(paths)
    settings = read_settings(paths.settings, OF_KUBESOLO, machine)
    document = _read(base)
    values, refused = startable(settings.values, document, machine)
    problems = [f"{paths.settings}: {reason}; it is left out" for reason in refused]
    for problem in (*settings.problems, *problems):
        reporter.problem(f"Kubernetes: {problem}")
    document = merge(document, values)
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        # JSON is YAML.
        file.write((json.dumps(document, indent=2, default=str) + "\n").encode())


def merge(document: dict[str, object], values: dict[str, Setting]) -> dict[str, object]:
    """``document`` with each setting at its place; what else it says stays."""
    for name, value in values.items():
        *groups, last = KINDS[name].place.split(".")
        table = document
        for group in groups:
            # KubeSolo's reader does not tell capitals in keys apart.
            key = _spelt(table, group)
            if not isinstance(table.get(key), dict):
                table[key] = {}
            child = table[key]
            assert isinstance(child, dict)
            table = child
        key = _spelt(table, last)
        if name == "container-mode":
            table[key] = _MODES[str(value)]
        else:
            table[key] = value
    return document


def _spelt(table: dict[str, object], name: str) -> str:
    return next((key for key in table if str(key).lower() == name.lower()), name)


def _read(path: str) -> dict[str, object]:
    try:
        document = load_yaml(read_bounded(path, MAX_BYTES).decode())
    except OSError as error:
        raise NodeError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise NodeError(f"{path} is no usable YAML: {error}") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise NodeError(f"{path} is no mapping of settings")
    return document
