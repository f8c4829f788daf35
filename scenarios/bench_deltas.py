"""What deltas between real releases weigh and cost: ``./noxw -s bench -- --part deltas``.

Each pair is built of real packages: the release as it is locked, and the same with a package as it
was before. For comparison stand xdelta3 and casync (locked as well), which know nothing of a
squashfs. Times are of this host; memory is that of the whole process of the node's Python.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

import product
from product.errors import KubesoloError
from product.image import progress
from product.image.build import Builder
from product.image.cache import Cache
from product.image.locks import Package
from product.image.recipe import Arch
from product.image.tools import IMAGES, HostTools
from product.manifest import INITRAMFS_NAME, KERNEL_NAME, ROOT_NAME
from product.release.deltas import make_with_tools
from scenarios.measure import Figures

# Percent of the whole file for one changed library, and seconds of a link of 10 Mbit/s.
LIBRARY_PERCENT = 4.0
LINK = 1.25e6

# Packages as they were before those that are locked; Debian's mirrors and snapshots have them.
FORMER = {
    "security update of libssl": Package(
        name="libssl3t64",
        version="3.5.7-1~deb13u3",
        architecture="amd64",
        group="root",
        archive="debian-security",
        path="pool/updates/main/o/openssl/libssl3t64_3.5.7-1~deb13u3_amd64.deb",
        size=2458176,
        sha256="ff16bc048bcd7d1b256094450b79c77947d8e76fe2a24bd99b91021d591fa074",
        snapshot="20261121T111449Z",
    ),
    "kernel update": Package(
        name="linux-image-6.12.117+deb13-amd64",
        version="6.12.117-1",
        architecture="amd64",
        group="kernel",
        archive="debian-security",
        path="pool/updates/main/l/linux-signed-amd64/"
        "linux-image-6.12.117+deb13-amd64_6.12.117-1_amd64.deb",
        size=108488460,
        sha256="ca712d36790184f6ac125ce2b20ea4e2202ae6bb7817b7de268f1f0115ccda73",
        snapshot="20261121T111449Z",
    ),
}
_APPLY = """import json, re, resource, sys
from product.agent.slots.delta import apply_delta
from product.manifest import Artifact
delta, old, size, sha256, out = sys.argv[1:]
def peak():
    # That of getrusage is inherited from whoever started this.
    return int(re.search("VmHWM:[^0-9]+([0-9]+)", open("/proc/self/status").read())[1]) * 1024
alone = peak()
before = resource.getrusage(resource.RUSAGE_SELF)
apply_delta(delta, old, Artifact("artifact", int(size), sha256), out)
after = resource.getrusage(resource.RUSAGE_SELF)
cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
print(json.dumps({"cpu": cpu, "before": alone, "peak": peak()}))
"""


class Pair(NamedTuple):
    """Two files of one name; ``budget`` in percent of the new one."""

    name: str
    old: Path
    new: Path
    budget: float | None = None


def measure(cache: Cache, tools: HostTools, figures: Figures) -> None:
    """Figures of every pair that can be had."""
    others = HostTools.prepare(cache, IMAGES / "delta-tools.toml")
    with tempfile.TemporaryDirectory(prefix="kubesolo-deltas-", dir=cache.root / "tmp") as folder:
        for pair in _pairs(cache, tools, Path(folder)):
            with progress.step(pair.name):
                _measure(pair, tools, others, Path(folder), figures)


def _pairs(cache: Cache, tools: HostTools, folder: Path) -> list[Pair]:
    now = Builder(Arch.X86_64, cache=cache, tools=tools)
    new = now.slot("0.2.0").folder
    earlier = now.slot("0.1.0").folder
    pairs = [Pair("nothing but a version", earlier / ROOT_NAME, new / ROOT_NAME)]
    for name, former in FORMER.items():
        builder = Builder(Arch.X86_64, cache=cache, tools=tools)
        kept = [package for package in builder.lock.packages if package.key != former.key]
        assert len(kept) == len(builder.lock.packages) - 1, f"{former.key} is not locked"
        builder.lock = builder.lock.model_copy(update={"packages": (*kept, former)})
        try:
            old = builder.slot("0.1.0").folder
        except KubesoloError as error:
            progress.note(f"{name}: left out: {error.message}")
            continue
        budget = LIBRARY_PERCENT if former.group == "root" else None
        pairs.append(Pair(f"{name}, root", old / ROOT_NAME, new / ROOT_NAME, budget))
        if former.group == "kernel":
            pairs.append(Pair(f"{name}, vmlinuz", old / KERNEL_NAME, new / KERNEL_NAME))
            pairs.append(Pair(f"{name}, initramfs", old / INITRAMFS_NAME, new / INITRAMFS_NAME))
    return pairs + _programs(cache, tools, folder)


def _programs(cache: Cache, tools: HostTools, folder: Path) -> list[Pair]:
    """The two newest builds of the Kubernetes program in the cache, each alone in an image."""
    trees = [tree for tree in cache.root.glob("trees/kubenode-x86_64-*") if tree.is_dir()]
    trees.sort(key=lambda tree: (tree / "kubenode").stat().st_mtime)
    images = []
    for tree in trees[-2:]:
        image = folder / f"{tree.name}.squashfs"
        tools.run(
            "mksquashfs", tree, image, "-comp", "zstd", "-Xcompression-level", "6",
            "-b", "65536", "-all-root", "-no-xattrs", "-noappend", "-no-progress", "-quiet",
            "-all-time", "0", "-mkfs-time", "0",
        )  # fmt: skip
        images.append(image)
    if len(images) < 2:
        progress.note("another build of Kubernetes: left out: the cache has one or none")
        return []
    return [Pair("another build of Kubernetes, alone", images[0], images[1])]


def _measure(
    pair: Pair, tools: HostTools, others: HostTools, folder: Path, figures: Figures
) -> None:
    whole = pair.new.stat().st_size
    figures.add(f"{pair.name}: whole", whole / 1e6, "MB")
    if pair.old.read_bytes() == pair.new.read_bytes():
        progress.note(f"{pair.name}: the same bytes, which nodes copy")
        return
    out = folder / "delta"
    made = make_with_tools(pair.old, pair.new, out)
    size = out.stat().st_size
    figures.add(f"{pair.name}: delta", size / 1e6, "MB")
    figures.add(f"{pair.name}: delta", size * 100 / whole, "%", pair.budget)
    figures.add(f"{pair.name}: publisher", made["make_seconds"], "s")
    cost = _apply(pair, tools, out, folder)
    figures.add(f"{pair.name}: node", cost["cpu"], "CPU-s", (whole - size) / LINK)
    figures.add(f"{pair.name}: node's peak memory", cost["peak"] / 1e6, "MB")
    figures.add(f"{pair.name}: of that, Python", cost["before"] / 1e6, "MB")
    figures.add(f"{pair.name}: xdelta3", _xdelta(pair, others, folder) * 100 / whole, "%")
    figures.add(f"{pair.name}: casync", _casync(pair, others, folder) * 100 / whole, "%")


def _apply(pair: Pair, tools: HostTools, delta: Path, folder: Path) -> dict[str, float]:
    digest = hashlib.sha256(pair.new.read_bytes()).hexdigest()
    printed = tools.run(
        "python3.13", "-s", "-S", "-P", "-B", "-c", _APPLY,
        delta, pair.old, str(pair.new.stat().st_size), digest, folder / "made",
        environment={
            "PYTHONHOME": str(tools.root / "usr"),
            "PYTHONPATH": str(Path(product.__path__[0]).resolve().parent),
        },
    )  # fmt: skip
    found: dict[str, float] = json.loads(printed)
    return found


def _xdelta(pair: Pair, others: HostTools, folder: Path) -> int:
    out = folder / "xdelta"
    others.run("xdelta3", "-9", "-S", "lzma", "-f", "-e", "-s", pair.old, pair.new, out)
    return out.stat().st_size


def _casync(pair: Pair, others: HostTools, folder: Path) -> int:
    """Bytes of the chunks that only the new file has, with its index."""
    store = folder / "store"
    shutil.rmtree(store, ignore_errors=True)
    sizes = []
    for number, file in enumerate((pair.old, pair.new)):
        index = folder / f"{number}.caibx"
        others.run("casync", "make", f"--store={store}", index, file)
        chunks = sum(path.stat().st_size for path in store.rglob("*.cacnk"))
        sizes.append(chunks + (index.stat().st_size if number else 0))
    return sizes[1] - sizes[0]
