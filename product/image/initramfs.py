"""The initramfs: busybox, dmsetup, the modules that find the disk, and ``images/boot/init``.

Below ``lib/modules`` lie the modules, a listing of each group and of each driver (its files in the
order in which they load), and for each bus a function of the shell that knows the aliases of its
drivers: early boot loads what the devices ask for, without an index that takes time to read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from product.image import cpio, elf
from product.image.errors import RecipeError
from product.image.kernel import Kernel, ModuleIndex
from product.image.recipe import Recipe
from product.image.tools import HostTools
from product.image.tree import Tree

# What the EFI partition takes; the module of each code page is named by the mount itself.
_RESCUE = ("vfat", "nls_cp437", "nls_ascii")
# Where the firmware keeps what systemd-stub says.
_UNIFIED = ("efivarfs",)
# What an ISO image takes, of CDs or of sticks.
_MEDIUM = ("isofs",)
# The disk in memory that holds the root; its size is a parameter, so that it cannot be built in.
_RAM = "brd"
# What checks each block of the root as it is read (product.image.verity). The kernel has the hash
# built in, and a module that makes it fast where the processor can.
_VERITY = ("dm_verity",)
_SHA256 = ("sha256_ssse3", "sha256_arm64", "sha2_ce")
_DMSETUP = "usr/sbin/dmsetup"
# The applets that init calls; a shell is given all of them.
_APPLETS = (
    "blockdev", "cat", "cttyhack", "dd", "dmesg", "grep", "hexdump", "insmod", "mkdir", "mount",
    "readlink", "reboot", "setsid", "sh", "sha256sum", "sleep", "stat", "switch_root", "sync", "tr",
    "umount", "usleep",
)  # fmt: skip
# How many characters tell aliases of a bus apart first: the vendor, most of the device's number.
_CUTS = {"pci": (len("pci:v00008086"), len("pci:v00008086d000029")), "usb": (len("usb:v0525"),)}
_FOLDERS = ("bin", "dev", "proc", "sys", "run", "mnt", "root", "tmp", "etc", "lib")


class Alias(NamedTuple):
    """A pattern of devices' names, and the driver that asks for them."""

    pattern: str
    driver: str


def build(
    recipe: Recipe, kernel: Kernel, root: Path, init: bytes, tools: HostTools, target: Path
) -> None:
    """Write the initramfs; ``root`` is the unpacked root tree that lends its programs.

    Raises RecipeError where the kernel has no module for a disk in memory, or for a verified root,
    or the tree no dmsetup.
    """
    index = ModuleIndex(kernel)
    settings = recipe.kernel.of(kernel.arch)
    if not index.closure([_RAM]):
        raise RecipeError(
            f"kernel {index.release} has {_RAM} built in, which the root is loaded into",
            hint="it must be a module: early boot gives it the root's size",
        )
    listings: dict[str, list[str]] = {
        "early": index.closure(settings.early),
        "watchdog": index.closure(settings.watchdog_fallback),
        "ram": index.closure((_RAM,)),
        "rescue": index.closure(_RESCUE),
        "medium": index.closure(_MEDIUM),
        "unified": index.closure(_UNIFIED),
        "verity": index.closure([*_VERITY, *(name for name in _SHA256 if index.has(name))]),
    }
    matchers: dict[str, str] = {}
    for kind, drivers in (("watchdogs", settings.watchdogs), ("drivers", settings.drivers)):
        asked: dict[str, list[Alias]] = {}
        for driver in drivers:
            if files := index.closure((driver,)):
                listings[driver] = files
                for bus, patterns in _by_bus(index.aliases(driver)).items():
                    asked.setdefault(bus, []).extend(Alias(one, driver) for one in patterns)
        for bus, aliases in asked.items():
            matchers[f"{kind}.{bus}"] = matcher(bus, aliases)
    busybox = Tree(root).follow("usr/bin/busybox").read_bytes()
    entries = [cpio.directory(name) for name in _FOLDERS]
    entries += [
        # Without it the kernel gives init no standard streams; devtmpfs comes later.
        cpio.character_device("dev/console", 5, 1),
        cpio.file("bin/busybox", busybox, executable=True),
        *(cpio.symlink(f"bin/{name}", "busybox") for name in _APPLETS),
        cpio.file("init", init, executable=True),
        cpio.directory("lib/modules"),
    ]
    libraries = elf.closure(root, _DMSETUP, kernel.arch)
    dmsetup = Tree(root).follow(_DMSETUP).read_bytes()
    entries.append(cpio.file("bin/dmsetup", dmsetup, executable=True))
    more = {str(PurePosixPath(name).parent) for name in libraries} - set(_FOLDERS)
    entries += [cpio.directory(name) for name in sorted(more)]
    entries += [cpio.file(*one, executable=True) for one in sorted(libraries.items())]
    for file in dict.fromkeys(file for files in listings.values() for file in files):
        entries.append(cpio.file(f"lib/modules/{PurePosixPath(file).name}", index.content(file)))
    for listing, files in listings.items():
        text = "".join(f"{PurePosixPath(file).name}\n" for file in files)
        entries.append(cpio.file(f"lib/modules/{listing}", text.encode()))
    for name, text in matchers.items():
        entries.append(cpio.file(f"lib/modules/{name}", text.encode()))
    archive = cpio.archive(entries, recipe.source_date)
    # Level 19 takes some seconds and is paid back in every slot's download.
    target.write_bytes(tools.run("zstd", "-19", "-T1", "-q", "-c", stdin=archive))


def _by_bus(aliases: Iterable[str]) -> dict[str, list[str]]:
    """Patterns by what stands before their colon, without those that a shell reads otherwise."""
    found: dict[str, list[str]] = {}
    for alias in aliases:
        bus = alias.partition(":")[0].rstrip("*")
        if re.fullmatch(r"[a-z]+", bus) and re.fullmatch(r"[A-Za-z0-9:*?\[\]_.,-]+", alias):
            found.setdefault(bus, []).append(alias)
    return found


def matcher(bus: str, aliases: Iterable[Alias]) -> str:
    """A function of the shell that loads each driver that asks for the device of alias $1."""
    return "\n".join([f"match_{bus}() {{", *_cases(aliases, _CUTS.get(bus, ())), "}", ""])


def _cases(aliases: Iterable[Alias], cuts: tuple[int, ...]) -> list[str]:
    """Lines of the shell that load each driver whose alias $1 fits.

    Aliases that begin alike up to the first of ``cuts`` are looked at only where $1 begins so.
    """
    direct: dict[str, list[str]] = {}
    nested: dict[str, list[Alias]] = {}
    for alias in aliases:
        prefix = alias.pattern[: cuts[0]] if cuts else "*"
        if re.search(r"[*?[]", prefix):
            direct.setdefault(alias.driver, []).append(alias.pattern)
        else:
            nested.setdefault(prefix, []).append(alias)
    lines = [
        f"case $1 in {'|'.join(patterns)}) load_once {driver} ;; esac"
        for driver, patterns in direct.items()
    ]
    if nested:
        lines.append("case $1 in")
        for prefix, group in nested.items():
            lines += [f"{prefix}*)", *_cases(group, cuts[1:]), ";;"]
        lines.append("esac")
    return lines
