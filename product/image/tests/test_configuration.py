"""The configuration that an image brings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from product.image.cache import Cache
from product.image.configuration import IN_ROOT, configuration_overlay
from product.image.errors import RecipeError
from product.image.recipe import Recipe

RECIPE = """
name = "site"
suite = "trixie"
configuration = "site"
[packages]
root = []
"""
Make = Callable[[dict[str, str]], Recipe]


@pytest.fixture
def recipe(tmp_path: Path) -> Make:
    def make(files: dict[str, str]) -> Recipe:
        (tmp_path / "site.toml").write_text(RECIPE)
        for name, text in files.items():
            path = tmp_path / "site" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        return Recipe.load(tmp_path / "site.toml")

    return make


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def test_it_lies_where_a_node_looks(recipe: Make, cache: Cache) -> None:
    text = "#cloud-config\nhostname: factory\n"
    tree = configuration_overlay(recipe({"user-data": text}), cache)
    assert tree is not None
    assert (tree / IN_ROOT / "user-data").read_text() == text


def test_a_recipe_without_one_has_none(tmp_path: Path, cache: Cache) -> None:
    (tmp_path / "plain.toml").write_text(RECIPE.replace('configuration = "site"', ""))
    assert configuration_overlay(Recipe.load(tmp_path / "plain.toml"), cache) is None


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "is no folder"),
        ({"meta-data": ""}, "neither user-data nor network-config"),
        ({"user-data.txt": "x"}, "holds user-data.txt"),
        ({"user-data": "#cloud-config\nhostnam: x\n"}, "user-data:2:1: hostnam: unknown key"),
        ({"network-config": "version: 1\n"}, "network-config:1"),
    ],
)
def test_what_a_node_would_refuse_is_an_error_of_the_build(
    recipe: Make, cache: Cache, files: dict[str, str], said: str
) -> None:
    with pytest.raises(RecipeError, match=said):
        configuration_overlay(recipe(files), cache)
