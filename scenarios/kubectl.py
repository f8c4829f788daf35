"""kubectl on the host that runs the scenarios, against the API server of a node.

An administrator works from elsewhere, too. An emulated node takes two seconds for each call, most
of them for starting kubectl; the host takes a tenth.
"""

from __future__ import annotations

import functools
import platform
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from harness.channel import CompletedCommand
from harness.deadline import Deadline
from harness.errors import CommandError
from harness.journal import Source
from harness.node import Node
from product.image.build import Builder
from product.image.cache import Cache
from product.image.recipe import Arch
from product.image.tools import IMAGES, HostTools

# The payload that the project proves itself with.
RECIPE = IMAGES / "debian.toml"
API_SERVER = 6443


@functools.cache
def program() -> Path:
    """The one of the payload that the nodes carry, for the host's processor."""
    cache = Cache()
    tools = HostTools.prepare(cache)
    arch = Arch(platform.machine())
    payload = Builder(arch, cache=cache, tools=tools, recipe=RECIPE).payload
    assert payload is not None, RECIPE
    return payload.prepare(arch, cache, tools) / "usr/bin/kubectl"


def run(
    node: Node, kubeconfig: str, arguments: Sequence[str], *, stdin: bytes | None, seconds: float
) -> CompletedCommand:
    """Run kubectl with the kubeconfig that lies on the node. Raises CommandError if it fails."""
    deadline: Deadline = node.machine.deadline(seconds)
    access = node.get(kubeconfig)
    with tempfile.TemporaryDirectory(prefix="kubesolo-kubectl-") as folder:
        path = Path(folder) / "kubeconfig"
        path.touch(mode=0o600)
        path.write_bytes(access)
        command = [
            str(program()), f"--kubeconfig={path}", f"--server=https://{node.address(API_SERVER)}",
            f"--cache-dir={folder}/cache", *arguments,
        ]  # fmt: skip
        said = ("kubectl", *arguments)
        node.journal.append(Source.HARNESS, "command", " ".join(said))
        begun = time.monotonic()
        try:
            ended = subprocess.run(
                command, input=stdin, stdin=None if stdin else subprocess.DEVNULL,
                capture_output=True, timeout=deadline.remaining, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise CommandError(f"{' '.join(said)} did not end within {seconds:.0f} s") from error
    done = CompletedCommand(
        said, ended.returncode, ended.stdout, ended.stderr, time.monotonic() - begun
    )
    if done.exit != 0:
        raise CommandError(f"expected success: {done}")
    return done
