"""The image's own objects in the cluster: ``/usr/lib/kubesolo/manifests/*.yaml``.

They are applied on the server's side by kubectl after a start of Kubernetes, so that an update
brings its own; Portainer's are made as the node's settings say. The cluster keeps a note of what
was applied: where it is the same, nothing is sent. The note holds the manifests whose objects go
again when the settings no longer ask for them, or the image no longer has them.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from functools import partial

from product.agent.errors import AgentError
from product.agent.system import program
from product.agent.system.files import read_bounded
from product.node import portainer
from product.node.console import Reporter
from product.node.errors import NodeError, ProgramFailedError
from product.node.paths import NodePaths
from product.node.payload import Payload
from product.node.settings import Settings, known_settings, read_settings

MANAGER = "kubesolo-os"
NOTE, NAMESPACE = "kubesolo-objects", "kube-system"
LOCAL_STORAGE, METRICS_SERVER = "local-path.yaml", "metrics-server.yaml"
# Left behind, its APIService would keep the cluster from removing any namespace.
REMOVED = METRICS_SERVER
# The line of the local-path provisioner's configuration that says where volumes lie.
_PLACES = re.compile(r"^( +)\{\"nodePathMap\": .*\}$", re.M)
ATTEMPTS, AGAIN_SECONDS, SELDOM_SECONDS = 5, 15.0, 300.0
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


def apply_patiently(paths: NodePaths, payload: Payload, reporter: Reporter) -> bool:
    """``apply``, again where an API server that has just started did not answer in time.

    After some attempts it is said, and goes on at longer intervals, because without the objects no
    name is resolved; until Kubernetes starts anew, which then sees to it.
    """
    began, attempts = _start(paths), 0
    while True:
        attempts += 1
        try:
            return apply(paths, payload, reporter)
        except ProgramFailedError as error:
            if attempts >= ATTEMPTS:
                if began is None or began != _start(paths):
                    raise
                if attempts == ATTEMPTS:
                    reporter.problem(f"Kubernetes: {error.message}; it is tried again")
            seconds = AGAIN_SECONDS if attempts < ATTEMPTS else SELDOM_SECONDS
            print(f"{error.message}; once more in {seconds:.0f} s")
            time.sleep(seconds)


def _start(paths: NodePaths) -> int | None:
    """Tells one start of Kubernetes that came to its end from another; None while there is none."""
    try:
        return os.stat(paths.ready).st_ctime_ns
    except OSError:
        return None


def apply(paths: NodePaths, payload: Payload, reporter: Reporter) -> bool:
    """Bring the objects into the cluster; whether anything was sent. Raises NodeError.

    Portainer's are made where they are absent, the others are as the image has them.
    """
    settings = read_settings(paths.settings, known_settings(payload))
    texts = _texts(paths.manifests, settings)
    made = portainer.objects(settings)
    if not (texts or made):
        return False
    wanted = hashlib.sha256(json.dumps([texts, made], sort_keys=True).encode()).hexdigest()
    kubectl = partial(_kubectl, paths, payload)
    noted = _noted(paths, payload)
    if noted.get("digest") == wanted:
        return False
    if REMOVED in noted and REMOVED not in texts:
        _write(paths.objects_applied, noted[REMOVED])
        kubectl(["delete", f"--filename={paths.objects_applied}", "--ignore-not-found",
                 "--wait=false"])  # fmt: skip
        print(f"removed the objects of {REMOVED}")
    if made:
        _create(paths, payload, made)
        reporter.say(
            "kubernetes: Portainer's Edge agent was set up; it runs once its image "
            f"{portainer.image(settings)} is there"
        )
    # Last, so that it stands only where the others do.
    _write(paths.objects_note, _note(wanted, texts.get(REMOVED)))
    _write(paths.objects_applied, "---\n".join(texts.values()))
    files = [f"--filename={path}" for path in (paths.objects_applied, paths.objects_note)]
    flags = ["--server-side", "--force-conflicts", f"--field-manager={MANAGER}"]
    kubectl(["apply", *flags, *files])
    return True


def _texts(folder: str, settings: Settings) -> dict[str, str]:
    """The manifests that the settings ask for, by name, in the order in which they are applied."""
    values = settings.values
    unwanted = {
        LOCAL_STORAGE: values.get("local-storage") is False,
        METRICS_SERVER: values.get("metrics-server") is not True,
    }
    found = {}
    for path in manifests(folder):
        name = path.rpartition("/")[2]
        if unwanted.get(name):
            continue
        try:
            found[name] = read_bounded(path, _MAX_BYTES).decode()
        except (OSError, ValueError) as error:
            raise NodeError(f"cannot read the image's objects: {error}") from None
    shared = settings.text("local-storage-shared-path")
    if shared and LOCAL_STORAGE in found:
        own = json.dumps({"sharedFileSystemPath": shared})
        found[LOCAL_STORAGE] = _PLACES.sub(lambda match: match[1] + own, found[LOCAL_STORAGE])
    return found


def _create(paths: NodePaths, payload: Payload, made: list[dict[str, object]]) -> None:
    """Make those that are absent. Raises ProgramFailedError for any other refusal."""
    _write(paths.objects_made, {"apiVersion": "v1", "kind": "List", "items": made})
    arguments = ["create", f"--filename={paths.objects_made}"]
    try:
        status, output = run_kubectl(paths, payload, arguments)
    finally:
        # It holds Portainer's key.
        os.unlink(paths.objects_made)
    refused = [line for line in output.splitlines() if line.lower().startswith("error")]
    if status != 0 and (not refused or any("already exists" not in line for line in refused)):
        raise _failed(arguments, status, output)


def _write(path: str, document: object) -> None:
    """Text, or a document as JSON, for root alone."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(document if isinstance(document, str) else json.dumps(document))


def _noted(paths: NodePaths, payload: Payload) -> dict[str, str]:
    """What the cluster's note says. Raises ProgramFailedError.

    It is asked for by its path: kubectl would first ask for all kinds, and complain of those of a
    metrics-server that has not started yet.
    """
    arguments = ["get", f"--raw=/api/v1/namespaces/{NAMESPACE}/configmaps/{NOTE}"]
    status, output = run_kubectl(paths, payload, arguments)
    if status != 0:
        if "(NotFound)" in output:
            return {}
        raise _failed(arguments, status, output)
    try:
        data = json.loads(output[output.index("{") :])["data"]
        return {str(name): str(text) for name, text in data.items()}
    except (ValueError, LookupError, TypeError, AttributeError):
        return {}


def _note(digest: str, removable: str | None) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": NOTE, "namespace": NAMESPACE},
        "data": {"digest": digest, **({REMOVED: removable} if removable else {})},
    }


def _kubectl(paths: NodePaths, payload: Payload, arguments: list[str]) -> str:
    """What it printed. Raises ProgramFailedError."""
    status, output = run_kubectl(paths, payload, arguments)
    if status != 0:
        raise _failed(arguments, status, output)
    return output


def run_kubectl(paths: NodePaths, payload: Payload, arguments: list[str]) -> tuple[int, str]:
    """kubectl as the node's administrator: its exit status and what it printed.

    Raises ProgramFailedError where it cannot be started.
    """
    options = [f"--kubeconfig={payload.kubeconfig}", f"--cache-dir={paths.run}/kubectl", _TIMEOUT]
    try:
        return program.run(["kubectl", *options, *arguments])
    except AgentError as error:
        raise ProgramFailedError(error.message) from None


def _failed(arguments: list[str], status: int, output: str) -> ProgramFailedError:
    said = output.splitlines()[-1] if output else "no output"
    return ProgramFailedError(f"kubectl {arguments[0]} failed ({status}): {said}")
