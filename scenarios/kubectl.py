"""kubectl on the host that runs the scenarios, against the API server of a node.

An administrator works from elsewhere, too. An emulated node takes two seconds for each call, most
of them for starting kubectl; the host takes a tenth.
"""

from __future__ import annotations

import functools
import itertools
import os
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from harness.commands.channel import CompletedCommand
from harness.errors import CommandError
from harness.journal.journal import Event, Source
from harness.target.node import Node
from product.image.cache import Cache
from product.image.payload.table import payload_of
from product.image.payload.upstream import KUBECTL, UpstreamPayload
from product.image.recipe import Recipe
from product.image.tools import IMAGES, host_arch

# Names the recipe of the node's Kubernetes, without its folder and suffix.
VARIABLE = "KUBESOLO_KUBERNETES"
RECIPE = IMAGES / f"{os.environ.get(VARIABLE, 'upstream')}.toml"
API_SERVER = 6443

_numbers = itertools.count()


@functools.cache
def program() -> Path:
    """kubectl as the nodes carry it, for this host; minutes where the cache does not hold it."""
    cache = Cache()
    payload = payload_of(Recipe.load(RECIPE))
    if not isinstance(payload, UpstreamPayload):
        raise CommandError(f"{VARIABLE}: {RECIPE.name} is no recipe with the payload upstream")
    return payload.program(KUBECTL, host_arch(), cache)


def run(
    node: Node, kubeconfig: str, arguments: Sequence[str], *, stdin: bytes | None, seconds: float
) -> CompletedCommand:
    """Run kubectl with the kubeconfig that lay on the node when it was first asked in this boot, or
    after a call that failed.

    Raises CommandError if it fails, else what a wait on the node raises.
    """
    executable = program()
    deadline = node.deadline(seconds)
    folder = node.machine.process.directory / "kubectl"
    folder.mkdir(mode=0o700, exist_ok=True)
    # Asking a node for it anew at each call would cost it a tenth of a second.
    access = folder / f"kubeconfig-{node.boots_begun}"
    if not access.exists():
        access.write_bytes(node.get(kubeconfig))
    command = [
        str(executable), f"--kubeconfig={access}", f"--server=https://{node.address(API_SERVER)}",
        # It is asked for all kinds once, and not at each call.
        f"--cache-dir={folder}/cache", *arguments,
    ]  # fmt: skip
    said = ("kubectl", *arguments)
    number, since, begun = next(_numbers), node.journal.cursor, time.monotonic()
    output = b"", b""

    def collect() -> None:
        nonlocal output
        output = process.communicate(stdin)
        taken = round(time.monotonic() - begun, 4)
        node.journal.append(
            Source.HARNESS, "command", " ".join(said),
            exit=process.returncode, seconds=taken, number=number,
        )  # fmt: skip

    def ended(event: Event) -> bool:
        return event.kind == "command" and event.data.get("number") == number

    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        collector = threading.Thread(target=collect, name="kubectl", daemon=True)
        collector.start()
        try:
            node.journal.wait(ended, " ".join(said), deadline, since=since)
        finally:
            process.kill()
            collector.join()
    done = CompletedCommand(said, process.returncode, *output, time.monotonic() - begun)
    if done.exit != 0:
        access.unlink()
        raise CommandError(f"expected success: {done}")
    return done
