"""Profiles of AppArmor as an image gets them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from product.image import apparmor
from product.image.errors import RecipeError
from product.image.tools import IMAGES, HostTools
from product.image.tree import Tree

OWN = "profile {name} {{\n  /etc/passwd r,\n  audit deny /dev/mem rw,\n}}\n"


def _tree(tmp_path: Path, **texts: str) -> Path:
    tree = Tree(tmp_path / "root")
    for name, text in texts.items():
        tree.write(f"{apparmor.TEXTS}/{name.replace('__', '/')}", text.encode())
    return tree.root


def test_each_mode_is_one_file_with_all_profiles(tmp_path: Path, host_tools: HostTools) -> None:
    root = _tree(tmp_path, one=OWN.format(name="one"), two=OWN.format(name="two"))
    apparmor.compile_profiles(root, host_tools)
    enforced, complaining = [(root / apparmor.BLOBS / mode).read_bytes() for mode in apparmor.MODES]
    assert enforced != complaining
    for blob in (enforced, complaining):
        assert blob.count(b"one\0") == blob.count(b"two\0") == 1


def test_pods_profiles_are_enforced_in_either_mode(tmp_path: Path, host_tools: HostTools) -> None:
    root = _tree(tmp_path, containers__pod=OWN.format(name="pod"))
    apparmor.compile_profiles(root, host_tools)
    enforced, complaining = [(root / apparmor.BLOBS / mode).read_bytes() for mode in apparmor.MODES]
    assert enforced == complaining


def test_the_same_texts_give_the_same_bytes(tmp_path: Path, host_tools: HostTools) -> None:
    found = []
    for name in ("first", "second"):
        root = _tree(
            tmp_path / name, one="include <parts/all>\n", parts__all=OWN.format(name="one")
        )
        apparmor.compile_profiles(root, host_tools)
        found.append((root / apparmor.BLOBS / "enforce").read_bytes())
    assert found[0] == found[1]


def test_a_text_that_is_no_profile_is_named(tmp_path: Path, host_tools: HostTools) -> None:
    root = _tree(tmp_path, odd="profile odd {\n  /etc/passwd reads,\n}\n")
    with pytest.raises(RecipeError, match=r"profile apparmor\.d/odd cannot be compiled: .*line 2"):
        apparmor.compile_profiles(root, host_tools)


def test_two_profiles_of_one_name_are_an_error(tmp_path: Path, host_tools: HostTools) -> None:
    root = _tree(tmp_path, one=OWN.format(name="same"), two=OWN.format(name="same"))
    with pytest.raises(RecipeError, match="profile of the name same"):
        apparmor.compile_profiles(root, host_tools)


def test_an_image_without_profiles_gets_none(tmp_path: Path, host_tools: HostTools) -> None:
    apparmor.compile_profiles(_tree(tmp_path, parts__all="file,\n"), host_tools)
    assert not (tmp_path / "root" / apparmor.BLOBS).exists()


def test_every_part_of_the_images_compiles(tmp_path: Path, host_tools: HostTools) -> None:
    """Each profile that a service names is there, and each that is there is named."""
    root = tmp_path / "root"
    named = set()
    for overlay in (
        IMAGES / "overlay", IMAGES / "payload/upstream", IMAGES / "extensions/ssh"
    ):  # fmt: skip
        shutil.copytree(overlay / apparmor.TEXTS, root / apparmor.TEXTS, dirs_exist_ok=True)
        for script in (overlay / "usr/lib/kubesolo/services").glob("*/run"):
            words = script.read_text().split()
            named |= {
                words[place + 1]
                for place, word in enumerate(words)
                if word in ("/usr/lib/kubesolo/confined", "--profile")
            }
    apparmor.compile_profiles(root, host_tools)
    assert set(os.listdir(root / apparmor.TEXTS)) - {"parts", apparmor.CONTAINERS} == named
