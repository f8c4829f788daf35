"""The payload of a recipe: a kind is the module of this package that has its name.

What makes a module a kind is that it has ``PAYLOAD``, its class; other modules here are helpers.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import re
from collections.abc import Mapping

from product.image import payload
from product.image.errors import RecipeError
from product.image.payload import Payload
from product.image.recipe import Recipe

_NAME = re.compile(r"[a-z][a-z0-9_]*")


def payload_of(recipe: Recipe, given: Mapping[str, object] | None = None) -> Payload | None:
    """The recipe's payload, or None; ``given`` goes before the recipe's own keys.

    Raises RecipeError for an unknown kind, a key that the kind lacks, or keys given to a recipe
    that has no payload.
    """
    if recipe.payload is None:
        if given:
            raise RecipeError(
                f"recipe {recipe.name} has no payload that could use {', '.join(sorted(given))}",
                hint="name a recipe that has one, such as images/upstream.toml",
            )
        return None
    table = {**recipe.payload, **(given or {})}
    kind = table.get("kind")
    found = _class_of(kind) if isinstance(kind, str) else None
    if found is None:
        raise RecipeError(
            f"recipe {recipe.name}: payload.kind is {kind!r}, known are {', '.join(kinds())}",
            hint="payloads are documented in docs/images.md",
        )
    return found.of(recipe, table)


def kinds() -> list[str]:
    """The names of all kinds."""
    names = sorted(module.name for module in pkgutil.iter_modules(payload.__path__))
    return [name for name in names if _class_of(name) is not None]


def _class_of(kind: str) -> type[Payload] | None:
    """None where no module has the name, or it is a helper."""
    name = f"{payload.__name__}.{kind}"
    # Also keeps the name from leading out of the package.
    if not _NAME.fullmatch(kind) or importlib.util.find_spec(name) is None:
        return None
    found: type[Payload] | None = getattr(importlib.import_module(name), "PAYLOAD", None)
    return found
