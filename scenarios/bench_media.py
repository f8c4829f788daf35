"""What each medium takes to build, and its size: ``./noxw -s bench -- --part media``.

The image is there before; each medium is built into a cache that has none. The node that starts
from a hypervisor's disk is measured once, from power on until it has judged itself.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from product.errors import KubesoloError
from product.image import progress
from product.image.build import Builder
from product.image.cache import Cache
from product.image.media import kinds
from product.image.media.from_oci import disk_from
from product.image.media.kinds import Kind, MediaOptions
from scenarios.local import Bench
from scenarios.measure import Figures

VERSION = "0.1.0"


def measure(builder: Builder, cache: Cache, figures: Figures) -> None:
    """Seconds and MB of every kind, and what it takes to get the disk back out of an OCI image."""
    image = builder.image(VERSION)
    raw = image.disk.stat()
    figures.add("disk image: what it holds", raw.st_size / 1e6, "MB")
    figures.add("disk image: what of it is written", raw.st_blocks * 512 / 1e6, "MB")
    with tempfile.TemporaryDirectory(prefix="kubesolo-bench-", dir=cache.root) as scratch:
        folder = Path(scratch)
        for kind in Kind:
            begun = time.monotonic()
            try:
                medium = kinds.write(kind, builder, image, folder, MediaOptions())
            except KubesoloError as error:
                progress.note(f"{kind}: {error.message}")
                continue
            figures.add(f"{kind}: build", time.monotonic() - begun, "s")
            figures.add(f"{kind}: size", medium.stat().st_size / 1e6, "MB")
            if kind is Kind.OCI:
                (folder / "files").mkdir()
                begun = time.monotonic()
                disk_from(medium, builder.arch, builder.tools, folder / "files", folder / "back")
                figures.add("oci: the disk out of it", time.monotonic() - begun, "s")
            os.unlink(medium)


def boots(bench: Bench, folder: Path, figures: Figures) -> None:
    """From power on of a disk of a hypervisor, or an ISO image, until the node is confirmed."""
    with tempfile.TemporaryDirectory(prefix="kubesolo-bench-") as scratch:
        for kind in (Kind.QCOW2, Kind.VMDK, Kind.VHDX):
            medium = kinds.build(kind, bench.builder, VERSION, Path(scratch))
            with bench.session(f"bench {kind}", folder / kind.value, "./noxw -s bench") as session:
                node = session.node(image=medium.path, disk_size_mib=kinds.DISK_BYTES >> 20)
                begun = time.monotonic()
                node.boot()
                node.wait_ready()
                figures.add(f"{kind}: first boot to confirmed", time.monotonic() - begun, "s")
