"""The image's own objects in the cluster: ``/usr/lib/kubesolo/manifests/*.yaml``.

They are applied on the server's side by kubectl at each start of Kubernetes, so that an update
brings its own. The cluster keeps a note of what was applied: where it is the same, nothing is sent.
"""

from __future__ import annotations

import hashlib
import json
import os
from functools import partial

from product.agent.errors import AgentError
from product.agent.system import program
from product.agent.system.files import read_bounded
from product.node.errors import NodeError, ProgramFailedError
from product.node.paths import NodePaths
from product.node.payload import Payload

MANAGER = "kubesolo-os"
NOTE, NAMESPACE = "kubesolo-objects", "kube-system"
_MAX_BYTES = 1 << 20
# kubectl's own; a request of a busy emulated node took half of it.
_TIMEOUT = "--request-timeout=60s"


def manifests(folder: str) -> list[str]:
    """Paths of the manifests, in the order in which they are applied."""
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(".yaml"))
    except FileNotFoundError:
        return []
    return [f"{folder}/{name}" for name in names]


def apply(paths: NodePaths, payload: Payload) -> bool:
    """Bring the objects into the cluster; whether anything was sent. Raises NodeError."""
    found = manifests(paths.manifests)
    if not found:
        return False
    digest = hashlib.sha256()
    try:
        for path in found:
            digest.update(read_bounded(path, _MAX_BYTES))
    except (OSError, ValueError) as error:
        raise NodeError(f"cannot read the image's objects: {error}") from None
    wanted = digest.hexdigest()
    kubectl = partial(_kubectl, paths, payload)
    get = ["get", "configmap", NOTE, f"--namespace={NAMESPACE}", "--ignore-not-found"]
    if kubectl([*get, "--output=jsonpath={.data.digest}"]) == wanted:
        return False
    # Last, so that it stands only where the others do.
    with open(paths.objects_note, "w", encoding="utf-8") as file:
        json.dump(_note(wanted), file)
    files = [f"--filename={path}" for path in (*found, paths.objects_note)]
    flags = ["--server-side", "--force-conflicts", f"--field-manager={MANAGER}"]
    kubectl(["apply", *flags, *files])
    return True


def _note(digest: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": NOTE, "namespace": NAMESPACE},
        "data": {"digest": digest},
    }


def _kubectl(paths: NodePaths, payload: Payload, arguments: list[str]) -> str:
    """What it printed. Raises ProgramFailedError."""
    options = [f"--kubeconfig={payload.kubeconfig}", f"--cache-dir={paths.run}/kubectl", _TIMEOUT]
    try:
        status, output = program.run(["kubectl", *options, *arguments])
    except AgentError as error:
        raise ProgramFailedError(error.message) from None
    if status != 0:
        said = output.splitlines()[-1] if output else "no output"
        raise ProgramFailedError(f"kubectl {arguments[0]} failed ({status}): {said}")
    return output
