"""How long the demo is going to take, asked of the cache before anything is built."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from product.image.cache import Cache
from product.image.payload.table import payload_of
from product.image.payload.upstream import KUBECTL, KUBENODE, UpstreamPayload
from product.image.recipe import Arch, Recipe
from product.image.tools import host_arch
from scenarios.kubectl import RECIPE

# Minutes on 2 cores without KVM.
APPLIANCE = 2.0
KUBERNETES = 9.0
# Packages are fetched, host programs and images made.
FIRST_TIME = 2.0
# All programs of the payload, from their modules; beyond it on other numbers of cores by these.
COMPILE = 12.0
_CORES = 2


class _NotBuilt(Exception):
    """The tree is not in the cache."""


class _Asked(Cache):
    """A cache that is only asked: nothing is built into it."""

    def tree(self, name: str, key: str, build: Callable[[Path], None]) -> Path:
        """The tree. Raises _NotBuilt."""
        path = self.trees / f"{name}-{key}"
        if not path.is_dir():
            raise _NotBuilt(path.name)
        return path


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the cache lacks."""

    host_programs: bool
    kubernetes: bool
    cores: int

    @classmethod
    def ask(cls, arch: Arch, cache: Cache, *, recipe: Path = RECIPE) -> Estimate:
        """Look what there is, without a network and without building anything.

        Raises RecipeError, LockError.
        """
        return cls(
            host_programs=not any(cache.trees.glob("host-tools-*")),
            kubernetes=not _compiled(arch, cache, recipe),
            cores=len(os.sched_getaffinity(0)),
        )

    def lines(self, *, kubernetes: bool) -> list[str]:
        """In words; ``kubernetes`` says whether the second part is told, too."""
        first = APPLIANCE + (FIRST_TIME if self.host_programs else 0)
        said = [f"first, without Kubernetes: {_about(first)}"]
        if not kubernetes:
            return said
        second = f"then, with Kubernetes: {_about(KUBERNETES)}"
        if self.kubernetes:
            compiling = max(COMPILE * _CORES / self.cores, 5)
            cores = f"{self.cores} core{'s'[: self.cores != 1]}"
            second += f", after it is compiled: {_about(compiling)} on {cores}, once"
        stop = "Ctrl-C in the second part keeps what the first has shown"
        return [*said, second, f"{stop}, and what is compiled" if self.kubernetes else stop]


def _compiled(arch: Arch, cache: Cache, recipe: Path) -> bool:
    payload = payload_of(Recipe.load(recipe))
    if not isinstance(payload, UpstreamPayload):
        return any(cache.trees.glob(f"kubernetes-{arch}-*"))
    asked = _Asked(cache.root)
    try:
        payload.program(KUBENODE, arch, asked)
        payload.program(KUBECTL, host_arch(), asked)
    except _NotBuilt:
        return False
    return True


def _about(minutes: float) -> str:
    whole = math.ceil(minutes)
    return f"about {whole} minute{'s'[: whole != 1]}"
