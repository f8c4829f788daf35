"""Debian's Go compiler, unpacked into the cache, and programs built with it.

Programs are static and do not use C, so either host builds for either guest, and the same bytes.
The compiler's own cache lies in the project's: what changed is compiled, the rest linked again.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from product.image import progress
from product.image.cache import Cache, digest_of
from product.image.drift import settle
from product.image.errors import ToolError
from product.image.golang.run import run
from product.image.locks import Package
from product.image.packages import compile_globs, fetch, unpack_all
from product.image.recipe import Arch, Recipe
from product.image.tools import HostTools, host_arch

RECIPE_NAME = "kubernetes-build.toml"
_GOROOT = "usr/lib/go-1.19"
# Go's own flag for bytes that depend on the sources alone.
_REPRODUCIBLE = ("-trimpath",)
# How many lines of a failed build are shown.
_LAST_LINES = 20


class BuildLock(NamedTuple):
    """The compiler and sources, for this host; ``drift`` says which are not the locked ones."""

    recipe: Recipe
    compiler: tuple[Package, ...]
    sources: tuple[Package, ...]
    drift: tuple[str, ...] = ()

    @classmethod
    def load(cls, folder: Path) -> BuildLock:
        """Read recipe and lock below ``folder``. Raises LockError, RecipeError."""
        recipe = Recipe.load(folder / RECIPE_NAME)
        lock, drift = settle(recipe, host_arch())
        return cls(recipe, lock.group("root"), lock.group("source"), drift)

    @property
    def linked(self) -> tuple[Package, ...]:
        """What goes into each program: Go's library. The group is ``compiler``."""
        return tuple(
            package.model_copy(update={"group": "compiler"})
            for package in self.compiler
            if re.fullmatch(r"golang-[0-9.]+-src", package.name)
        )

    @property
    def digest(self) -> str:
        """Names compiler and sources by version and content; the same on either host."""
        return digest_of(
            [(package.name, package.version) for package in self.compiler],
            [package.sha256 for package in self.sources],
            [package.sha256 for package in self.compiler] if self.drift else [],
        )


class Go:
    """The compiler; ``work`` is a scratch directory that holds GOPATH, as ``gopath``."""

    def __init__(self, lock: BuildLock, cache: Cache, tools: HostTools, work: Path) -> None:
        self.root = _unpacked(lock, cache)
        self._tools = tools
        self._work = work
        self.gopath = work / "gopath"
        self._cache = cache.root / "go-build"
        self._cache.mkdir(exist_ok=True)
        (work / "tmp").mkdir()

    def build(
        self, arch: Arch, package: str, target: Path, *, cwd: Path, what: str,
        tags: Iterable[str] = (), variables: Iterable[str] = (),
    ) -> None:  # fmt: skip
        """Build ``package`` for ``arch`` into ``target``; ``variables`` are linker's NAME=VALUE.

        Raises ToolError with the compiler's last words.
        """
        # No symbols, and no identifier that would hold the compiler's own.
        linker = " ".join(["-s", "-w", "-buildid=", *(f"-X={one}" for one in variables)])
        command = self._tools.argv(
            str(self.root / _GOROOT / "bin/go"), "build", "-v", *_REPRODUCIBLE,
            "-tags", ",".join(tags), "-ldflags", linker, "-o", str(target), package,
        )  # fmt: skip
        with progress.step(f"compile {what}"):
            self._run(command, arch, cwd)

    def execute(self, program: Path, *args: str | Path, cwd: Path) -> None:
        """Run a program that was built for this host. Raises ToolError with its last words."""
        result = subprocess.run(
            [program, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace", cwd=cwd, env=self._environment(host_arch()), check=False,
        )  # fmt: skip
        if result.returncode:
            words = "\n".join((result.stderr or result.stdout).splitlines()[-_LAST_LINES:])
            raise ToolError(f"{program.name} failed with {result.returncode}: {words}")

    def _environment(self, arch: Arch) -> dict[str, str]:
        """What the compiler sees, for ``arch``; nothing of the host's."""
        return {
            "GOROOT": str(self.root / _GOROOT),
            "GOPATH": str(self.gopath),
            "GOCACHE": str(self._cache),
            "GOTMPDIR": str(self._work / "tmp"),
            "GOENV": "off",
            "GOFLAGS": "",
            "GO111MODULE": "off",
            "GOOS": "linux",
            "GOARCH": arch.debian,
            "CGO_ENABLED": "0",
            "PATH": "/usr/bin:/bin",
            "LC_ALL": "C.UTF-8",
        }

    def _run(self, command: list[str], arch: Arch, cwd: Path) -> None:
        ended = run(command, cwd=cwd, environment=self._environment(arch))
        if ended.status:
            raise ToolError(
                f"the Go compiler failed with {ended.status}: {ended.words}",
                hint="is there memory and disk space left?" if ended.status < 0 else None,
            )


def _unpacked(lock: BuildLock, cache: Cache) -> Path:
    """The compiler's tree, with the programs that its lock brings along."""
    prune = lock.recipe.root.prune

    def build(tree: Path) -> None:
        blobs = fetch(lock.compiler, cache)
        with progress.step("unpack the Go compiler"):
            unpack_all(list(blobs.values()), tree, compile_globs(prune))

    return cache.tree("go", digest_of([p.sha256 for p in lock.compiler], prune), build)
