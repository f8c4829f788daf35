"""Fixtures that tests of every package share: host programs, built images."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from product.image import drift
from product.image.build import DEFAULT_RECIPE, Builder, Image
from product.image.cache import Cache
from product.image.recipe import Arch
from product.image.tools import HostTools

pytest_plugins = ["harness.pytest_plugin", "product.agent.tests.fixtures"]


@pytest.fixture(scope="session")
def cache() -> Cache:
    """The user's cache."""
    return Cache()


@pytest.fixture(scope="session")
def host_tools(cache: Cache) -> HostTools:
    """The locked host programs."""
    return HostTools.prepare(cache)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which packages were not the locked ones: workers' own lines are captured."""
    if drift.allowed() and (lines := drift.recorded(Cache())):
        terminalreporter.section("not as locked")
        for line in lines:
            terminalreporter.line(line)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """Half as many workers again as cores: a good part of them waits for a machine or a turn."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None  # It is heard by who is asked next.
    cores = len(os.sched_getaffinity(0))
    return cores + cores // 2


class Images(Mapping[str, Image]):
    """Disk images by architecture, built when first asked for."""

    def __init__(
        self,
        cache: Cache,
        tools: HostTools,
        version: str = "0.1.0",
        *,
        recipe: Path = DEFAULT_RECIPE,
    ) -> None:
        self._cache = cache
        self._tools = tools
        self._version = version
        self._recipe = recipe

    def builder(self, arch: str) -> Builder:
        """The builder for one architecture."""
        return Builder(Arch(arch), cache=self._cache, tools=self._tools, recipe=self._recipe)

    def __getitem__(self, arch: str) -> Image:
        return self.builder(arch).image(self._version)

    def __iter__(self) -> Iterator[str]:
        return iter(arch.value for arch in Arch)

    def __len__(self) -> int:
        return len(Arch)


@pytest.fixture(scope="session")
def images(cache: Cache, host_tools: HostTools) -> Images:
    """The image under test of each architecture, at the version that updates start from."""
    return Images(cache, host_tools)
