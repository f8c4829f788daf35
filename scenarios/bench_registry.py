"""A node's pull from a registry against skopeo's: ``./noxw -s bench -- --part registry``.

Both bring the same release from the same docker-registry on this host, from their start to their
end: skopeo copies the release's image, the node's code follows the metadata, fetches every artifact
and tells the disk to keep it.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import product
from harness.servers.registry import Registry
from product.errors import KubesoloError
from product.image.build import Builder
from product.image.cache import Cache
from product.image.tools import IMAGES, HostTools
from product.release.oras import Access, Reference
from product.release.push import push
from scenarios.measure import Figures
from scenarios.releases import Releases

RUNS = 5
PULL = """
import os, sys
from product.agent.config import Config
from product.agent.sources.artifact import fetch_artifact
from product.agent.sources.oci import OciSource
from product.agent.trust.client import find_release
url, key, architecture, folder = sys.argv[1:]
with OciSource(url, "stable") as source:
    found = find_release(
        source, Config(pubkey=key), architecture=architecture, metadata_dir=f"{folder}/metadata"
    )
    for artifact in found.manifest.artifacts:
        fetch_artifact(source, artifact, f"{folder}/{artifact.name}")
"""


def measure(builder: Builder, cache: Cache, figures: Figures) -> None:
    """Seconds of each, in turns."""
    tools = HostTools.prepare(cache, IMAGES / "registry-tools.toml")
    skopeo = HostTools.prepare(cache, IMAGES / "test-tools.toml")
    with tempfile.TemporaryDirectory(prefix="kubesolo-bench-", dir=cache.root) as scratch:
        folder = Path(scratch)
        release = Releases(builder, folder).good
        with Registry(tools=tools, runs=folder / "runs") as registry:
            reference = Reference(registry.host, "os/kubesolo", "stable")
            pushed = push(release.repository, reference, Access(plain_http=True))
            image = pushed.layout.images[0].digest
            key = folder / "key.pem"
            key.write_bytes(release.pubkey)
            ours, theirs = [], []
            for number in range(RUNS):
                place = folder / str(number)
                place.mkdir()
                command = [
                    sys.executable, "-c", PULL, f"{registry.url}/os/kubesolo", str(key),
                    builder.arch.value, str(place),
                ]  # fmt: skip
                ours.append(_seconds(command))
                copy = skopeo.argv(
                    "skopeo", "--insecure-policy", "copy", "--src-tls-verify=false",
                    f"docker://{registry.host}/os/kubesolo@{image}", f"oci:{folder / f's{number}'}",
                )  # fmt: skip
                theirs.append(_seconds(copy))
    megabytes = release.slot.manifest.total_size / 1e6
    figures.add("pull from a registry, by the node", megabytes / statistics.median(ours), "MB/s")
    figures.add("the same by skopeo copy", megabytes / statistics.median(theirs), "MB/s")
    ratio = statistics.median(one / other for one, other in zip(ours, theirs, strict=True))
    figures.add("pull by the node against skopeo copy", ratio, "x")


def _seconds(command: list[str]) -> float:
    root = str(Path(product.__file__).parents[1])
    begun = time.monotonic()
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": root}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise KubesoloError(f"{command[0]} failed: {done.stderr[-1000:]}")
    os.sync()
    return time.monotonic() - begun
