"""`kubesolo-node rewrite`: bring every Secret into the form that this start settled on.

The API server encrypts what is written. So each Secret is read and written as it is; what somebody
changes or removes in between needs no other hand.
"""

from __future__ import annotations

import json
import os
import time
from functools import partial

from product.node import encryption
from product.node.console import Reporter
from product.node.errors import ProgramFailedError
from product.node.objects import run_kubectl
from product.node.paths import NodePaths
from product.node.payload import Payload

ATTEMPTS, AGAIN_SECONDS = 40, 15.0
# What kubectl says of one that changed, or went, since it was read.
_PASSED = ("(Conflict)", "(NotFound)")


def rewrite(paths: NodePaths, payload: Payload, reporter: Reporter) -> None:
    """Write all Secrets anew and note it. Raises ProgramFailedError, OSError."""
    with open(f"{paths.config}/encryption.json", "rb") as file:
        target = encryption.target_of(file.read())
    for attempt in range(ATTEMPTS):
        try:
            count = _pass(paths, payload)
            break
        except ProgramFailedError as error:
            if attempt == ATTEMPTS - 1:
                raise
            print(f"{error.message}; once more in {AGAIN_SECONDS:.0f} s")
            time.sleep(AGAIN_SECONDS)
    encryption.note_written(paths, payload.datastore, target)
    os.unlink(paths.rewrite_request)
    how = "not encrypted" if target == encryption.PLAIN else f"encrypted with {target}"
    reporter.say(f"kubernetes: Secrets in the datastore are {how} ({count} written)")


def _pass(paths: NodePaths, payload: Payload) -> int:
    """How many there are. Raises ProgramFailedError where one was not written."""
    kubectl = partial(run_kubectl, paths, payload)
    status, output = kubectl(["get", "secrets", "--all-namespaces", "--output=json"])
    if status != 0:
        raise ProgramFailedError(f"kubectl get secrets failed ({status})")
    # A warning may stand before it.
    items = json.loads(output[output.index("{") :])["items"]
    if not items:
        return 0
    descriptor = os.open(paths.secrets, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump({"apiVersion": "v1", "kind": "List", "items": items}, file)
        status, output = kubectl(["replace", "--validate=false", f"--filename={paths.secrets}"])
    finally:
        os.unlink(paths.secrets)
    refused = [line for line in output.splitlines() if line.startswith(("Error", "error"))]
    passed = [line for line in refused if any(word in line for word in _PASSED)]
    if status != 0 and (not refused or len(passed) < len(refused)):
        wrong = next((line for line in refused if line not in passed), "no reason")
        raise ProgramFailedError(f"kubectl replace failed ({status}): {wrong:.200}")
    return len(items)
