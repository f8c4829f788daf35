"""The kernel of an image and the closure of the modules that its recipe asks for.

The package holds compressed modules and no index. ``depmod`` indexes them once; the closure over
hard and soft dependencies is taken from that index, and modules are stored uncompressed, because
the file systems around them are compressed already and a slow processor should not unpack twice.
"""

from __future__ import annotations

import lzma
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from product.image import progress
from product.image.cache import Cache, digest_of
from product.image.errors import ImageError, RecipeError
from product.image.locks import Lock
from product.image.packages import fetch, unpack_all
from product.image.recipe import Arch
from product.image.tools import HostTools

# GRUB and QEMU load these formats; anything else would fail on the node instead of here.
_MAGIC = {Arch.X86_64: (0x202, b"HdrS"), Arch.AARCH64: (0x38, b"ARM\x64")}


class Kernel(NamedTuple):
    """An unpacked kernel package: ``release`` is what ``uname -r`` says."""

    tree: Path
    release: str
    arch: Arch

    @property
    def image(self) -> Path:
        """The bootable kernel file."""
        return self.tree / "boot" / f"vmlinuz-{self.release}"

    @property
    def config(self) -> Path:
        """The configuration that it was built with."""
        return self.tree / "boot" / f"config-{self.release}"

    @property
    def modules(self) -> Path:
        """The folder of modules with depmod's index."""
        return self.tree / "usr/lib/modules" / self.release


class KernelNeeds(NamedTuple):
    """What somebody needs of a kernel: modules, and ``CONFIG_`` options without that prefix.

    Either may be built in or loadable.
    """

    modules: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def prepare(lock: Lock, arch: Arch, cache: Cache, tools: HostTools) -> Kernel:
    """Unpack and index the locked kernel unless the cache holds it."""
    packages = lock.group("kernel")
    if len(packages) != 1:
        raise ImageError(f"the lock for {arch} holds {len(packages)} kernels, an image has one")
    key = digest_of(packages[0].sha256, tools.digest, 1)

    def build(tree: Path) -> None:
        blobs = fetch(packages, cache)
        with progress.step(f"unpack and index {packages[0].name}"):
            unpack_all(list(blobs.values()), tree, re.compile(r"usr/share/.*"))
            for module in tree.rglob("*.ko.xz"):
                module.with_suffix("").write_bytes(lzma.decompress(module.read_bytes()))
                module.unlink()
            release = _release(tree)
            # depmod looks below lib/modules, the package ships usr/lib/modules.
            (tree / "lib").symlink_to("usr/lib")
            tools.run("depmod", "-b", tree, release)

    tree = cache.tree(f"kernel-{arch}", key, build)
    kernel = Kernel(tree, _release(tree), arch)
    _check_format(kernel)
    return kernel


def _release(tree: Path) -> str:
    found = sorted((tree / "boot").glob("vmlinuz-*"))
    if len(found) != 1:
        raise ImageError(f"the kernel package holds {len(found)} kernels, expected one")
    return found[0].name.removeprefix("vmlinuz-")


def _check_format(kernel: Kernel) -> None:
    offset, magic = _MAGIC[kernel.arch]
    with kernel.image.open("rb") as stream:
        head = stream.read(0x210)
    if head[offset : offset + len(magic)] != magic:
        raise ImageError(f"{kernel.image} is not a {kernel.arch.kernel_format} for {kernel.arch}")


class ModuleIndex:
    """What depmod found: files, dependencies and what is built in. Names use underscores."""

    def __init__(self, kernel: Kernel) -> None:
        self._files: dict[str, str] = {}
        self._needs: dict[str, list[str]] = {}
        for line in (kernel.modules / "modules.dep").read_text().splitlines():
            file, _, needs = line.partition(":")
            name = _name(file)
            self._files[name] = file
            self._needs[name] = [_name(need) for need in needs.split()]
        builtin = (kernel.modules / "modules.builtin").read_text().split()
        self._builtin = {_name(file) for file in builtin}
        self._soft: dict[str, list[str]] = {}
        for line in (kernel.modules / "modules.softdep").read_text().splitlines():
            words = line.split()
            if len(words) > 2 and words[0] == "softdep" and words[2] == "pre:":
                names = [word for word in words[3:] if not word.endswith(":")]
                self._soft[words[1].replace("-", "_")] = [n.replace("-", "_") for n in names]
        self.release = kernel.release

    def closure(self, names: Iterable[str], *, missing_ok: bool = False) -> list[str]:
        """Files below the modules folder in an order that loads: a dependency before its user.

        What is built in needs nothing. Raises RecipeError for a module that the kernel lacks,
        unless ``missing_ok`` (for drivers that only some architectures have).
        """
        order: dict[str, None] = {}

        def add(name: str, wanted_by: str | None) -> None:
            name = name.replace("-", "_")
            if name in self._builtin or self._files.get(name) in order:
                return
            if name not in self._files:
                if missing_ok or wanted_by is not None:
                    return
                raise RecipeError(
                    f"kernel {self.release} has no module {name!r}, neither loadable nor built in"
                )
            # A soft dependency may be absent: the kernel package then does without it.
            for need in [*self._soft.get(name, ()), *reversed(self._needs[name])]:
                add(need, name)
            order[self._files[name]] = None

        for name in names:
            add(name, None)
        return list(order)

    def has(self, name: str) -> bool:
        """Whether the kernel has the module, loadable or built in."""
        name = name.replace("-", "_")
        return name in self._files or name in self._builtin


def _name(file: str) -> str:
    return Path(file).name.removesuffix(".ko").replace("-", "_")


def check_needs(kernel: Kernel, needs: KernelNeeds, who: str) -> None:
    """Raise RecipeError that names every module and option of ``needs`` that ``kernel`` lacks."""
    index = ModuleIndex(kernel)
    text = kernel.config.read_text()
    enabled = set(re.findall(r"^CONFIG_(\w+)=[ym]$", text, re.M))
    lacking = [name for name in needs.modules if not index.has(name)]
    lacking += [f"CONFIG_{name}" for name in needs.options if name not in enabled]
    if lacking:
        raise RecipeError(
            f"kernel {kernel.release} lacks what {who} needs: {', '.join(lacking)}",
            hint=f"name another kernel package in packages.{kernel.arch}.kernel and lock again",
        )
