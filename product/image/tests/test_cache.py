"""What the cache keeps, and what it lets go."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from product.image.cache import UNUSED_IMAGE_SECONDS, UNUSED_SECONDS, Cache

LIMIT = 30.0


def build(tree: Path) -> None:
    (tree / "content").write_text("built")
    # As unpacking an archive does.
    os.utime(tree, (0, 0))


def unused_for(tree: Path, seconds: float) -> None:
    os.utime(tree, (time.time() - seconds,) * 2)


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("slot-x86_64", UNUSED_IMAGE_SECONDS),
        ("disk-aarch64", UNUSED_IMAGE_SECONDS),
        ("kubernetes-x86_64", UNUSED_SECONDS),
    ],
)
def test_a_tree_that_nobody_asks_for_is_removed_in_time(
    tmp_path: Path, name: str, seconds: float
) -> None:
    cache = Cache(tmp_path)
    old = cache.tree(name, "a", build)
    asked_for = cache.tree(name, "b", build)
    younger = cache.tree(name, "c", build)
    for tree in (old, asked_for):
        unused_for(tree, seconds + 60)
    unused_for(younger, seconds - 60)
    assert cache.tree(name, "b", build) == asked_for
    cache.tree("other", "d", build)
    assert {tree.name for tree in cache.trees.iterdir()} == {f"{name}-b", f"{name}-c", "other-d"}
    assert not [path for path in cache.tmp.iterdir() if path.is_dir()]
    assert cache.tree(name, "a", build).is_dir()


def test_a_tree_is_not_removed_while_somebody_asks_for_it(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    tree = cache.tree("slot-x86_64", "a", build)
    unused_for(tree, UNUSED_IMAGE_SECONDS + 60)
    with cache.lock(tree.name):
        sweeper = threading.Thread(target=cache.tree, args=("other", "b", build))
        sweeper.start()
        sweeper.join(LIMIT)
        assert not sweeper.is_alive()
    assert tree.is_dir()
