"""The initramfs: busybox, the modules that find the disk, and ``images/boot/init``."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from product.image import cpio
from product.image.errors import RecipeError
from product.image.kernel import Kernel, ModuleIndex
from product.image.recipe import Recipe
from product.image.tools import HostTools

# What the EFI partition takes; the module of each code page is named by the mount itself.
_RESCUE = ("vfat", "nls_cp437", "nls_ascii")
# The disk in memory that holds the root; its size is a parameter, so that it cannot be built in.
_RAM = "brd"
# The applets that init calls; a shell is given all of them.
_APPLETS = (
    "blockdev", "cttyhack", "dd", "dmesg", "grep", "hexdump", "insmod", "mkdir", "mount",
    "readlink", "reboot", "setsid", "sh", "sha256sum", "sleep", "stat", "switch_root", "sync", "tr",
    "umount", "usleep",
)  # fmt: skip
_FOLDERS = ("bin", "dev", "proc", "sys", "run", "mnt", "root", "tmp", "etc", "lib")


def build(
    recipe: Recipe, kernel: Kernel, root: Path, init: bytes, tools: HostTools, target: Path
) -> None:
    """Write the initramfs; ``root`` is the unpacked root tree that lends its static busybox.

    Raises RecipeError where the kernel has no module for a disk in memory.
    """
    index = ModuleIndex(kernel)
    settings = recipe.kernel
    if not index.closure([_RAM]):
        raise RecipeError(
            f"kernel {index.release} has {_RAM} built in, which the root is loaded into",
            hint="it must be a module: early boot gives it the root's size",
        )
    listings: dict[str, list[str]] = {}
    for listing, wanted in (
        ("early", settings.early),
        ("watchdog", settings.watchdog_fallback),
        ("storage", settings.storage),
        ("ram", (_RAM,)),
        ("rescue", _RESCUE),
    ):
        taken = {file for files in listings.values() for file in files}
        # A driver that only the other architecture has is not an error here.
        files = index.closure(wanted, missing_ok=True)
        listings[listing] = [file for file in files if file not in taken]
    entries = [cpio.directory(name) for name in _FOLDERS]
    entries += [
        # Without it the kernel gives init no standard streams; devtmpfs comes later.
        cpio.character_device("dev/console", 5, 1),
        cpio.file("bin/busybox", (root / "usr/bin/busybox").read_bytes(), executable=True),
        *(cpio.symlink(f"bin/{name}", "busybox") for name in _APPLETS),
        cpio.file("init", init, executable=True),
        cpio.directory("lib/modules"),
    ]
    for file in [file for files in listings.values() for file in files]:
        name = f"lib/modules/{PurePosixPath(file).name}"
        entries.append(cpio.file(name, (kernel.modules / file).read_bytes()))
    for listing, files in listings.items():
        text = "".join(f"{PurePosixPath(file).name}\n" for file in files)
        entries.append(cpio.file(f"lib/modules/{listing}", text.encode()))
    archive = cpio.archive(entries, recipe.source_date)
    # Level 19 takes a second and is paid back in every slot's download.
    target.write_bytes(tools.run("zstd", "-19", "-T1", "-q", "-c", stdin=archive))
