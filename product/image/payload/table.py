"""The table of payload kinds, and the payload of a recipe."""

from __future__ import annotations

from collections.abc import Mapping

from product.image.errors import RecipeError
from product.image.payload import Payload
from product.image.payload.debian import DebianPayload
from product.image.payload.kubesolo import KubesoloPayload
from product.image.recipe import Recipe

KINDS: dict[str, type[Payload]] = {
    "debian": DebianPayload,
    "kubesolo": KubesoloPayload,
}


def payload_of(recipe: Recipe, given: Mapping[str, object] | None = None) -> Payload | None:
    """The recipe's payload, or None; ``given`` goes before the recipe's own keys.

    Raises RecipeError for an unknown kind, a key that the kind lacks, or keys given to a recipe
    that has no payload.
    """
    if recipe.payload is None:
        if given:
            raise RecipeError(
                f"recipe {recipe.name} has no payload that could use {', '.join(sorted(given))}",
                hint="name a recipe that has one, such as images/debian.toml",
            )
        return None
    table = {**recipe.payload, **(given or {})}
    kind = table.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise RecipeError(
            f"recipe {recipe.name}: payload.kind is {kind!r}, known are {', '.join(sorted(KINDS))}",
            hint="payloads are documented in docs/images.md",
        )
    return KINDS[kind].of(recipe, table)
