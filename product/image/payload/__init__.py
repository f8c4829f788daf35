"""What an image carries beside the appliance: a Kubernetes distribution, as decision 0005 says.

A kind of payload is a module here whose ``PAYLOAD`` is a class that is a ``Payload``; a recipe
names the module as ``[payload] kind``. Builders know nothing else of any of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, Self, TypeVar, runtime_checkable

from pydantic import BaseModel, ConfigDict, ValidationError

from product.image.cache import Cache
from product.image.golang.contents import LinkedModule
from product.image.kernel import KernelNeeds
from product.image.locks import Package
from product.image.recipe import Arch, Recipe, recipe_error
from product.image.tools import HostTools


class Options(BaseModel):
    """A kind's keys under ``[payload]``; each kind adds its own to them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str


class Payload(Protocol):
    """One payload, set up from its recipe."""

    @classmethod
    def of(cls, recipe: Recipe, table: Mapping[str, object]) -> Self:
        """Set up from a recipe's ``[payload]``; see ``read_options``. Raises RecipeError."""

    @property
    def kernel(self) -> KernelNeeds:
        """What it needs of the kernel; the modules become part of the image."""

    def digest(self, arch: Arch) -> str:
        """Names everything that the tree for ``arch`` is made from, without making it."""

    def prepare(self, arch: Arch, cache: Cache, tools: HostTools) -> Path:
        """The tree for ``arch`` to lay over the packages and under the overlay, from the cache.

        It holds ``usr/lib/kubesolo/payload.json``. Raises ImageError.
        """


@runtime_checkable
class Relockable(Protocol):
    """A payload that pins what is no Debian package."""

    def relock(self) -> list[str]:
        """Renew its own lock; what changed, a line each. Raises ImageError; the lock then stays."""


@runtime_checkable
class Packaged(Protocol):
    """A payload that holds files of Debian packages."""

    def packages(self, arch: Arch) -> tuple[Package, ...]:
        """These packages. Raises ImageError."""


@runtime_checkable
class Linked(Protocol):
    """A payload that holds programs which were linked from Go modules."""

    def modules(self, arch: Arch, cache: Cache) -> list[LinkedModule]:
        """These modules, each once. Raises ImageError."""


AnyOptions = TypeVar("AnyOptions", bound=Options)


def read_options(
    model: type[AnyOptions], recipe: Recipe, table: Mapping[str, object]
) -> AnyOptions:
    """Check ``[payload]`` by a kind's model. Raises RecipeError that names the key."""
    try:
        return model.model_validate(table)
    except ValidationError as error:
        raise recipe_error(f"recipe {recipe.name}", error, "payload.") from None
