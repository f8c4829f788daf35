"""A signed archive, and a recipe that was locked from it."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from product.image import drift, progress, relock
from product.image.cache import Cache
from product.image.recipe import Recipe
from product.image.tests.debian_archive import (
    HELLO,
    LIBRARY,
    STAMP,
    SUITE,
    DebianArchive,
    lacking_programs,
)
from product.image.tests.golang_fixtures import module, proxy, shelf, toolchain
from product.image.tools import host_arch

__all__ = ["module", "proxy", "shelf", "toolchain"]


@pytest.fixture
def told() -> Iterator[io.StringIO]:
    """What the builder tells people, wherever this run shows that."""
    file = io.StringIO()
    with progress.shown_on(file):
        yield file


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[DebianArchive]:
    """An archive of two packages."""
    if lacking := lacking_programs():
        pytest.skip(f"this host lacks {', '.join(lacking)}")
    home = Path(tempfile.mkdtemp(prefix="gpg-"))
    try:
        made = DebianArchive(tmp_path / "served", home)
        made.add(LIBRARY)
        made.add(HELLO)
        with made.served():
            yield made
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def store(tmp_path: Path) -> Cache:
    """An empty cache."""
    return Cache(tmp_path / "store")


@pytest.fixture
def recipe(
    archive: DebianArchive, store: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Recipe:
    """A recipe that was locked when the archive had everything."""
    monkeypatch.setenv("KUBESOLO_DEBIAN_MIRROR", archive.mirrors.debian)
    monkeypatch.setenv("KUBESOLO_DEBIAN_SECURITY_MIRROR", archive.mirrors.security)
    monkeypatch.delenv("KUBESOLO_DEBIAN_SNAPSHOT", raising=False)
    monkeypatch.setenv("KUBESOLO_CACHE", str(store.root))
    monkeypatch.setenv(drift.VARIABLE, "0")
    monkeypatch.setattr(drift, "_decided", {})
    monkeypatch.setattr(relock, "KEYRING", archive.keyring)
    monkeypatch.setattr(relock, "now_stamp", lambda: STAMP)
    (tmp_path / "tools.toml").write_text(
        f'name = "tools"\nsuite = "{SUITE}"\n[packages]\nroot = ["hello"]\n'
    )
    recipe = Recipe.load(tmp_path / "tools.toml")
    relock.relock(recipe, host_arch(), store)
    return recipe
