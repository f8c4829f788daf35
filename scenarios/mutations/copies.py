"""Copies of the checkout: mutated or not, with the images that scenarios run on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from product.image import kernel, rootfs
from product.image.build import DEFAULT_RECIPE, Builder
from product.image.cache import Cache
from product.image.recipe import Arch
from scenarios import kubectl
from scenarios.kubectl import RECIPE
from scenarios.mutations.table import ROOT, Edit, MutationError
from scenarios.releases import FACTORY, GOOD

# The copy's image is built for one run: pack it quickly. Nothing but time and size depends on it.
_QUICK = (
    Edit(
        file="product/image/rootfs.py",
        old='"-Xcompression-level", "6"',
        new='"-Xcompression-level", "1"',
    ),
    Edit(file="product/image/initramfs.py", old='"zstd", "-19"', new='"zstd", "-3"'),
)
# What of the cache no mutation can change: it is not built again for each.
_SHARED_TREES = (
    "host-tools-*",
    "kernel-*",
    "packages-*",
    "licences-*",
    "go-*",
    "kubernetes-*",
    "pause-*",
)
_LIMIT = 3600.0
_TAIL = 30


# Written by a run itself: they make no commit another one.
_WRITTEN = ("fixtures/mutation-results.json", "docs/mutations.md")


@dataclass(frozen=True, slots=True)
class Workspace:
    """A copy with its images built; ``end`` removes it."""

    folder: Path
    copy: Path
    cache: Path
    arch: Arch
    end: ExitStack

    @property
    def out(self) -> Path:
        """Where scenarios leave their evidence."""
        return self.copy / "out"


class Copies:
    """Makes workspaces in ``cache``'s file system."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._prepared: set[tuple[Arch, Path]] = set()

    def make(self, origin: Path, arch: Arch, edits: Sequence[Edit]) -> Workspace:
        """A copy of ``origin`` with the edits, without images. Raises MutationError."""
        with ExitStack() as stack:
            folder = stack.enter_context(self._cache.scratch("mutation"))
            copy = folder / "checkout"
            shutil.copytree(origin, copy, symlinks=True)
            for edit in (*edits, *_QUICK):
                edit.apply(copy)
            cache = self._private_cache(folder / "cache")
            return Workspace(folder, copy, cache, arch, stack.pop_all())

    def images(self, workspace: Workspace, recipe: Path) -> None:
        """Build what most scenarios begin with. Raises MutationError."""
        self._prepare(workspace.arch, recipe)
        for what, version in (("build", FACTORY), ("slot", GOOD)):
            run_in(
                workspace,
                [
                    "-m", "product.image", what, "--arch", workspace.arch.value,
                    "--version", version, "--recipe", str(recipe.relative_to(ROOT)),
                ],
            )  # fmt: skip

    def _prepare(self, arch: Arch, recipe: Path) -> None:
        """Have what mutations share in the user's cache."""
        if (arch, recipe) not in self._prepared:
            builder = Builder(arch, cache=self._cache, recipe=recipe)
            kernel.prepare(builder.lock, arch, self._cache, builder.tools)
            rootfs.packages_tree(builder.recipe, builder.lock, arch, self._cache, builder.tools)
            builder.licences_tree()
            if builder.payload is not None:
                builder.payload.prepare(arch, self._cache, builder.tools)
            if recipe == RECIPE:
                kubectl.program()
            self._prepared.add((arch, recipe))

    def _private_cache(self, root: Path) -> Path:
        """A cache of its own, so that no broken image stays; downloads and the pool are shared."""
        (root / "trees").mkdir(parents=True)
        (root / "harness").mkdir()
        (root / "blobs").symlink_to(self._cache.blobs)
        pool = self._cache.root / "harness" / "pool"
        pool.mkdir(parents=True, exist_ok=True)
        (root / "harness" / "pool").symlink_to(pool)
        for pattern in _SHARED_TREES:
            for tree in self._cache.trees.glob(pattern):
                (root / "trees" / tree.name).symlink_to(tree)
        return root


def recipe_for(scenarios: Sequence[str]) -> Path:
    """The image that most of them run on."""
    kubernetes = sum(name.startswith("k8s/") for name in scenarios)
    return RECIPE if 2 * kubernetes > len(scenarios) else DEFAULT_RECIPE


def run_in(workspace: Workspace, arguments: list[str], allowed: Sequence[int] = (0,)) -> str:
    """Run this interpreter in the copy; returns what it printed. Raises MutationError."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(workspace.copy),
        "KUBESOLO_CACHE": str(workspace.cache),
    }
    try:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=workspace.copy, env=environment, timeout=_LIMIT,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise MutationError(f"{arguments[1]} took over {_LIMIT:.0f} s") from None
    if done.returncode not in allowed:
        raise MutationError(
            f"{arguments[1]} in the copy ended with {done.returncode}:\n{tail(done.stdout)}"
        )
    return done.stdout


def tail(text: str) -> str:
    return "\n".join(text.splitlines()[-_TAIL:])


def commit() -> str:
    """The checked-out commit, with a mark where files that git tracks differ from it."""

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, check=False, text=True
        )
        return done.stdout.strip() if done.returncode == 0 else ""

    head = git("rev-parse", "--short=12", "HEAD") or "unknown"
    others = [f":!{name}" for name in _WRITTEN]
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", *others)
    return f"{head}-dirty" if changed else head


def copy_checkout(target: Path) -> None:
    """Copy the files that git tracks, as they are in the working tree. Raises MutationError."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False, text=True
    )
    if listed.returncode != 0:
        raise MutationError(f"cannot list the files of {ROOT}: {listed.stderr.strip()}")
    for name in listed.stdout.split("\0"):
        source = ROOT / name
        if name and (source.is_file() or source.is_symlink()):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name, follow_symlinks=False)


def all_scenarios() -> list[str]:
    """The names of every scenario there is. Raises MutationError."""
    with _scratch_file() as witness:
        done = subprocess.run(
            [
                sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider",
                "-p", "scenarios.mutations.witness", "--witness", str(witness), "--arch", "all",
                "--ignore=scenarios/mutations", "scenarios",
            ],
            cwd=ROOT, capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        if done.returncode != 0 or not witness.exists():
            raise MutationError(f"cannot collect the scenarios:\n{done.stdout[-2000:]}")
        return witness.read_text().splitlines()


@contextmanager
def _scratch_file() -> Iterator[Path]:
    with Cache().scratch("collect") as folder:
        yield folder / "names"
