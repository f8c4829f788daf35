"""Build the system: Debian's kernel, and an initramfs of busybox, Python and the channel's daemon.

Nothing runs as root and nothing is installed; the locked packages come from the cache.
"""

from __future__ import annotations

import gzip
from pathlib import Path

from kubesolo_os.harness.pytest_plugin.image import KernelImage
from kubesolo_os.product.image import cpio, kernel
from kubesolo_os.product.image.cache import Cache, digest_of, tree_digest
from kubesolo_os.product.image.drift import settle
from kubesolo_os.product.image.images import find_product
from kubesolo_os.product.image.packages import compile_globs, fetch, unpack_all
from kubesolo_os.product.image.recipe import Arch, Recipe
from kubesolo_os.product.image.tools import HostTools

HERE = Path(__file__).resolve().parent
MODULES = ("virtio_pci", "virtio_console")
# The channel's daemon: Python of the standard library alone.
CHANNEL = "usr/lib/channel"

INIT = """#!/usr/bin/busybox sh
/usr/bin/busybox --install -s
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs run /run
while read module; do insmod "/lib/modules/$module"; done < /lib/modules/order
exec /usr/bin/busybox init
"""
INITTAB = f"""::sysinit:/usr/bin/say-ready
::respawn:/usr/bin/env PYTHONPATH=/{CHANNEL} /usr/bin/python3.13 -P -S -m product.channel
::ctrlaltdel:/sbin/reboot
"""
SAY_READY = """#!/bin/sh
echo "debian-cloud: ready version=$(cat /etc/debian_version)" > /dev/console
"""


def build(arch: str = "x86_64") -> KernelImage:
    """The system, built unless the cache holds it."""
    cache = Cache()
    tools = HostTools.prepare(cache)
    recipe = Recipe.load(HERE / "recipe.toml")
    lock, _ = settle(recipe, Arch(arch), cache)
    used = kernel.prepare(lock, Arch(arch), cache, tools)
    code = find_product()
    key = digest_of(
        [package.sha256 for package in lock.packages], recipe.root.prune, INIT, INITTAB, SAY_READY,
        MODULES, tree_digest(code / "channel", without="tests"),
    )  # fmt: skip

    def make(target: Path) -> None:
        root = target / "root"
        root.mkdir()
        blobs = fetch(lock.group("root"), cache)
        unpack_all(list(blobs.values()), root, compile_globs(recipe.root.prune))
        with gzip.open(target / "initrd", "wb", compresslevel=6) as stream:
            stream.write(cpio.archive([*_root(root), *_own(code, used)], recipe.source_date))

    folder = cache.tree("debian-cloud", key, make)
    # On a busy host an emulated timer may tick too late for the kernel's check of it.
    append = "console=ttyS0 rdinit=/init panic=-1 no_timer_check"
    return KernelImage(used.image, folder / "initrd", append, fields={"firmware": "bios"})


def _root(root: Path) -> list[cpio.Entry]:
    """What the packages brought."""
    entries = []
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            entries.append(cpio.symlink(name, str(path.readlink())))
        elif path.is_dir():
            entries.append(cpio.directory(name))
        else:
            executable = bool(path.stat().st_mode & 0o100)
            entries.append(cpio.file(name, path.read_bytes(), executable=executable))
    return entries


def _own(code: Path, used: kernel.Kernel) -> list[cpio.Entry]:
    """Init, the modules in the order in which they are loaded, and the channel's daemon."""
    index = kernel.ModuleIndex(used)
    modules = index.closure(MODULES)
    entries = [
        # Without it the kernel gives init no standard streams.
        cpio.character_device("dev/console", 5, 1),
        cpio.file("init", INIT.encode(), executable=True),
        cpio.file("etc/inittab", INITTAB.encode()),
        cpio.file("usr/bin/say-ready", SAY_READY.encode(), executable=True),
        cpio.directory("usr/lib/modules"),
        cpio.file(
            "usr/lib/modules/order", "".join(f"{Path(name).name}\n" for name in modules).encode()
        ),
        *(cpio.file(f"usr/lib/modules/{Path(name).name}", index.content(name)) for name in modules),
        *(cpio.directory(f"{CHANNEL}{below}") for below in ("", "/product", "/product/channel")),
    ]
    shipped = [code / "__init__.py", code / "errors.py", *sorted((code / "channel").glob("*.py"))]
    entries += [
        cpio.file(f"{CHANNEL}/product/{path.relative_to(code).as_posix()}", path.read_bytes())
        for path in shipped
    ]
    return entries
