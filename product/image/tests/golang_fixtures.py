"""A toolchain, a proxy that the user has configured, a cache and a module: for tests of builds."""

from __future__ import annotations

from pathlib import Path

import pytest

from product.image.cache import Cache
from product.image.golang.modules import GoModule
from product.image.golang.toolchain import Toolchain
from product.image.tests.go_proxy import GoProxy, make_module


@pytest.fixture(scope="session")
def toolchain(cache: Cache) -> Toolchain:
    """The locked one."""
    return Toolchain.prepare(cache)


@pytest.fixture
def proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GoProxy:
    """A proxy with one greeting, which the user has configured."""
    made = GoProxy(tmp_path / "proxy")
    made.add_greeting()
    for name in ("GOFLAGS", "GOPRIVATE", "GONOPROXY", "GONOSUMDB", "GOINSECURE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GOENV", "off")
    monkeypatch.setenv("GOPROXY", made.url)
    monkeypatch.setenv("GOSUMDB", "off")
    return made


def new_cache(folder: Path, cache: Cache, toolchain: Toolchain) -> Cache:
    """A cache with the toolchain, and what it has compiled, but no modules."""
    made = Cache(folder)
    (made.trees / toolchain.root.name).symlink_to(toolchain.root)
    (cache.root / "go-build").mkdir(exist_ok=True)
    (made.root / "go-build").symlink_to(cache.root / "go-build")
    return made


@pytest.fixture
def shelf(tmp_path: Path, cache: Cache, toolchain: Toolchain) -> Cache:
    """A cache without modules."""
    return new_cache(tmp_path / "shelf", cache, toolchain)


@pytest.fixture
def module(tmp_path: Path, proxy: GoProxy) -> GoModule:
    """A program that prints the greeting."""
    return GoModule(make_module(tmp_path / "program", proxy))
