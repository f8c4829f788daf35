"""A third kind of payload: this module and a recipe are all of it. See test_payload."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from product.image.cache import Cache, digest_of
from product.image.kernel import KernelNeeds
from product.image.payload import Options, Payload, read_options
from product.image.recipe import Arch, Recipe
from product.image.tools import HostTools

_DESCRIPTION = {"schema": 1, "kind": "dummy", "kubernetes": "1.99.0"}


class DummyOptions(Options):
    """Its own keys under ``[payload]``."""

    greeting: str


class Dummy:
    """All that a third kind of payload takes."""

    def __init__(self, options: DummyOptions) -> None:
        self._greeting = options.greeting

    @classmethod
    def of(cls, recipe: Recipe, table: Mapping[str, object]) -> Self:
        """Set up from ``[payload]``."""
        return cls(read_options(DummyOptions, recipe, table))

    @property
    def kernel(self) -> KernelNeeds:
        """One module, one option."""
        return KernelNeeds(("veth",), ("NAMESPACES",))

    def digest(self, arch: Arch) -> str:
        """Names the tree."""
        return digest_of(self._greeting, arch, _DESCRIPTION)

    def prepare(self, arch: Arch, cache: Cache, tools: HostTools) -> Path:
        """The tree."""

        def build(tree: Path) -> None:
            files = {
                "usr/lib/kubesolo/payload.json": json.dumps(_DESCRIPTION),
                # The packages have the first, the recipe's overlay has the second.
                "usr/share/zoneinfo/UTC": self._greeting,
                "usr/lib/kubesolo/applets": "nothing",
            }
            for name, text in files.items():
                (tree / name).parent.mkdir(parents=True, exist_ok=True)
                (tree / name).write_text(text)

        return cache.tree(f"payload-dummy-{arch}", self.digest(arch), build)


PAYLOAD: type[Payload] = Dummy
