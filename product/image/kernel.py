"""The kernel of an image and the closure of the modules that its recipe asks for.

The package holds thousands of compressed modules and no index. ``depmod`` indexes them once; the
closure over hard and soft dependencies is taken from that index. The few that an image takes are
stored uncompressed, because the file systems around them are compressed already and a slow
processor should not unpack twice.
"""

from __future__ import annotations

import lzma
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from product.image import progress
from product.image.cache import Cache, digest_of
from product.image.errors import ImageError, RecipeError
from product.image.locks import Lock
from product.image.packages import fetch, unpack_all
from product.image.recipe import Arch, Recipe
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
    key = digest_of(packages[0].sha256, tools.digest, 2)

    def build(tree: Path) -> None:
        blobs = fetch(packages, cache)
        with progress.step(f"unpack and index {packages[0].name}"):
            unpack_all(list(blobs.values()), tree, re.compile(r"usr/share/.*"))
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
    """What depmod found: files, aliases, dependencies and what is built in.

    Names use underscores, files are relative to the modules' folder and end in ``.ko``.
    """

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self._files: dict[str, str] = {}
        self._needs: dict[str, list[str]] = {}
        for line in self._lines("dep"):
            file, _, needs = line.partition(":")
            name = _name(file)
            self._files[name] = file.removesuffix(".xz")
            self._needs[name] = [_name(need) for need in needs.split()]
        self._builtin = {_name(file) for file in self._lines("builtin")}
        self._before: dict[str, list[str]] = {}
        self._after: dict[str, list[str]] = {}
        for line in self._lines("softdep"):
            kind, user, *words = line.split() or [""]
            if kind == "softdep":
                self._soft_dependencies(user.replace("-", "_"), words)
        self._aliases: dict[str, list[str]] = {}
        for line in self._lines("alias"):
            # Some aliases have spaces; the module's name has none.
            alias, _, name = line.removeprefix("alias ").rpartition(" ")
            if not line.startswith("#"):
                self._aliases.setdefault(name.replace("-", "_"), []).append(alias)
        self.release = kernel.release

    def _lines(self, listing: str) -> list[str]:
        return (self.kernel.modules / f"modules.{listing}").read_text().splitlines()

    def _soft_dependencies(self, user: str, words: Sequence[str]) -> None:
        """``pre: a b post: c``: what to load before the user, and after it, where there is any."""
        chosen = self._before
        for word in words:
            if word in ("pre:", "post:"):
                chosen = self._before if word == "pre:" else self._after
            else:
                chosen.setdefault(user, []).append(word)

    def closure(self, names: Iterable[str]) -> list[str]:
        """Files in an order that loads: a dependency before its user, soft ones as they say.

        What is built in needs nothing. Raises RecipeError for a module that the kernel lacks.
        """
        order: dict[str, None] = {}
        seen: set[str] = set()

        def add(name: str, *, soft: bool) -> None:
            if soft and not self.has(name):
                # The kernel package then does without it, or it is an alias of what it has.
                for provider in self._named(name):
                    add(provider, soft=True)
                return
            name = name.replace("-", "_")
            if name in self._builtin or name in seen:
                return
            if name not in self._files:
                raise RecipeError(
                    f"kernel {self.release} for {self.kernel.arch} has no module {name!r}, neither "
                    "loadable nor built in"
                )
            seen.add(name)
            for need in self._before.get(name, ()):
                add(need, soft=True)
            for need in reversed(self._needs[name]):
                add(need, soft=False)
            order[self._files[name]] = None
            for need in self._after.get(name, ()):
                add(need, soft=True)

        for name in names:
            add(name, soft=False)
        return list(order)

    def _named(self, alias: str) -> list[str]:
        """The modules that have this very name as an alias, such as crypto-crc32c."""
        return [name for name, aliases in self._aliases.items() if alias in aliases]

    def has(self, name: str) -> bool:
        """Whether the kernel has the module, loadable or built in."""
        name = name.replace("-", "_")
        return name in self._files or name in self._builtin

    def aliases(self, name: str) -> list[str]:
        """Patterns of the devices that ask for the module; none for one that is built in."""
        name = name.replace("-", "_")
        return self._aliases.get(name, []) if name in self._files else []

    def content(self, file: str) -> bytes:
        """A module's bytes, as the kernel loads them."""
        path = self.kernel.modules / file
        if path.is_file():
            return path.read_bytes()
        return lzma.decompress(path.with_name(f"{path.name}.xz").read_bytes())


def _name(file: str) -> str:
    return Path(file).name.removesuffix(".xz").removesuffix(".ko").replace("-", "_")


def check_modules(kernel: Kernel, recipe: Recipe) -> None:
    """Raise RecipeError for the first module that ``recipe`` names and ``kernel`` lacks."""
    index = ModuleIndex(kernel)
    for name in recipe.kernel.of(kernel.arch).all():
        if not index.has(name):
            raise RecipeError(
                f"{recipe.naming(name)} names the module {name!r}, and kernel {kernel.release} for "
                f"{kernel.arch} has none, neither loadable nor built in",
                hint="one that only the other architecture's kernel has belongs under "
                f"kernel.{next(arch for arch in Arch if arch is not kernel.arch)}",
            )


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
