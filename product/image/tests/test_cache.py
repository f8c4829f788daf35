"""What the cache keeps, and what it lets go."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from product.image import durable
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


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Path]]:
    """What is synced and what is renamed, as it happens."""
    seen: list[tuple[str, Path]] = []
    fsync, rename, replace = os.fsync, Path.rename, Path.replace

    def record_fsync(descriptor: int) -> None:
        seen.append(("sync", Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    def record_file_system(root: Path) -> bool:
        seen.append(("sync all", root))
        return sync_file_system(root)

    def record(step: str, move: Callable[[Path, Path], Path]) -> Callable[[Path, Path], Path]:
        def moved(path: Path, target: Path) -> Path:
            seen.append((step, path))
            return move(path, target)

        return moved

    sync_file_system = durable._sync_file_system
    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(durable, "_sync_file_system", record_file_system)
    monkeypatch.setattr(Path, "rename", record("rename", rename))
    monkeypatch.setattr(Path, "replace", record("rename", replace))
    return seen


def test_a_tree_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, order: list[tuple[str, Path]]
) -> None:
    """A power cut must not leave a tree that has its name and lacks its content."""

    def some(tree: Path) -> None:
        (tree / "folder").mkdir()
        (tree / "folder/file").write_text("content")
        (tree / "link").symlink_to("folder")

    Cache(tmp_path).tree("slot", "a", some)
    [work] = [path for step, path in order if step == "rename"]
    wanted = {work, work / "folder", work / "folder/file"}
    assert {path for step, path in order if step == "sync"} == wanted
    assert order[-1] == ("rename", work)
    assert order[-2] == ("sync", work)


def test_a_tree_of_many_files_is_synced_with_its_file_system(
    tmp_path: Path, order: list[tuple[str, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def many(tree: Path) -> None:
        for number in range(100):
            (tree / str(number)).write_text("content")

    Cache(tmp_path).tree("packages", "a", many)
    [(step, work), renamed] = order
    assert (step, renamed) == ("sync all", ("rename", work))
    # A C library without that call.
    order.clear()
    monkeypatch.setattr(durable, "_sync_file_system", lambda root: False)
    Cache(tmp_path).tree("packages", "b", many)
    assert [step for step, _ in order] == ["sync"] * 101 + ["rename"]


def test_a_download_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, order: list[tuple[str, Path]]
) -> None:
    source = tmp_path / "download"
    source.write_text("content")
    Cache(tmp_path / "cache").add_blob(source, "0" * 64)
    assert order == [("sync", source), ("rename", source)]
