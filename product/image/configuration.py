"""A recipe's ``configuration``: what the image brings for nodes that get no other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from product.cloudinit.errors import CloudInitError
from product.cloudinit.load import load_meta_data, load_network, load_user_data
from product.cloudinit.sources import META_DATA, NETWORK, USER_DATA
from product.image.cache import Cache, tree_digest
from product.image.errors import RecipeError
from product.image.recipe import Recipe

# Where product.cloudinit.sources looks.
IN_ROOT = "usr/lib/kubesolo/config"
_LOADERS: dict[str, Callable[[bytes, str], object]] = {
    USER_DATA: load_user_data,
    META_DATA: load_meta_data,
    NETWORK: load_network,
}


def configuration_overlay(recipe: Recipe, cache: Cache) -> Path | None:
    """A tree to lay over the root; None where the recipe names no configuration.

    Raises RecipeError where the folder has no configuration, or one that a node would refuse.
    """
    if recipe.configuration is None:
        return None
    folder = recipe.folder / recipe.configuration
    what = f"recipe {recipe.name}: configuration: {folder}"
    if not folder.is_dir():
        raise RecipeError(f"{what} is no folder", hint=f"put {USER_DATA} into a folder there")
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
    if stray := sorted(files.keys() - _LOADERS.keys()):
        raise RecipeError(f"{what} holds {stray[0]}", hint=f"a node reads {', '.join(_LOADERS)}")
    if not {USER_DATA, NETWORK} & files.keys():
        raise RecipeError(f"{what} holds neither {USER_DATA} nor {NETWORK}")
    for name, content in files.items():
        try:
            _LOADERS[name](content, str(folder / name))
        except CloudInitError as error:
            raise RecipeError(error.message, hint=error.hint) from None

    def build(tree: Path) -> None:
        for name, content in files.items():
            path = tree / IN_ROOT / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    return cache.tree("configuration", tree_digest(folder), build)
