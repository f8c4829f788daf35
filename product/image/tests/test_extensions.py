"""Extensions: packages and files that a recipe adds to an image, any number of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from product.image.errors import RecipeError
from product.image.recipe import Recipe
from product.image.tools import IMAGES

BASE = 'suite = "trixie"\n[packages]\nroot = ["busybox-static"]\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Recipes with one part of each axis, and two extensions."""
    for axis, text in (("base", BASE), ("hardware", ""), ("payload", "")):
        (tmp_path / axis).mkdir()
        (tmp_path / axis / "plain.toml").write_text(text)
    (tmp_path / "extensions/one/usr").mkdir(parents=True)
    (tmp_path / "extensions/one.toml").write_text('[packages]\nroot = ["dropbear-bin"]\n')
    (tmp_path / "extensions/two.toml").write_text('[packages]\nroot = ["tcpdump"]\n')
    return tmp_path


def write(folder: Path, extensions: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(
        'name = "mine"\nbase = "plain"\nhardware = "plain"\npayload = "plain"\n'
        f"extensions = {extensions}\n"
    )
    return path


def test_packages_and_files_are_added_in_order(folder: Path) -> None:
    recipe = Recipe.load(write(folder, '["one", "two"]'))
    assert recipe.packages.root == ("busybox-static", "dropbear-bin", "tcpdump")
    # One without a folder has packages alone.
    assert recipe.overlays() == (folder / "overlay", folder / "extensions/one")
    assert Recipe.load(write(folder, "[]")).overlays() == (folder / "overlay",)


@pytest.mark.parametrize(
    ("extensions", "message"),
    [
        ('["three"]', "extensions: there is no 'three'"),
        ('"one"', "extensions: a list of names was expected"),
        ("[1]", "extensions: a list of names was expected"),
    ],
)
def test_a_mistyped_one_is_an_error(folder: Path, extensions: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Recipe.load(write(folder, extensions))


@pytest.mark.parametrize("key", ['name = "x"', 'extensions = ["two"]', '[payload]\nkind = "x"'])
def test_an_extension_is_no_recipe(folder: Path, key: str) -> None:
    (folder / "extensions/one.toml").write_text(f"{key}\n")
    with pytest.raises(RecipeError, match=r"one\.toml is part of a recipe and cannot have"):
        Recipe.load(write(folder, '["one"]'))


def test_no_image_that_ships_has_an_ssh_server() -> None:
    for name in ("appliance", "upstream", "kubesolo"):
        recipe = Recipe.load(IMAGES / f"{name}.toml")
        assert recipe.extensions == ()
        assert not any("dropbear" in package for package in recipe.packages.root)
    assert "dropbear-bin" in Recipe.load(IMAGES / "appliance-ssh.toml").packages.root
