"""Fixtures that tests of every package share: host programs, built images."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from harness.pytest_plugin.lab import bench_of
from harness.pytest_plugin.scenario import LAB
from product.image import drift
from product.image.build import DEFAULT_RECIPE, Builder, Image
from product.image.cache import Cache
from product.image.recipe import Arch
from product.image.secure_boot.keys import Signing
from product.image.tools import IMAGES, HostTools

pytest_plugins = [
    "harness.pytest_plugin",
    "product.agent.tests.fixtures",
    "scenarios.live",
    "scenarios.release_report",
]


@pytest.fixture(scope="session")
def cache() -> Cache:
    """The user's cache."""
    return Cache()


@pytest.fixture(scope="session")
def host_tools(cache: Cache, builds_shown: None) -> HostTools:
    """The locked host programs."""
    return HostTools.prepare(cache)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which packages were not the locked ones: workers' own lines are captured."""
    if drift.allowed() and (lines := drift.recorded(Cache())):
        terminalreporter.section("not as locked")
        for line in lines:
            terminalreporter.line(line)


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a path or a test that is not there: parallel workers say nothing of it."""
    if hasattr(config, "workerinput"):
        return
    for word in config.args:
        name, _, test = word.partition("::")
        path = config.invocation_params.dir / name
        if not path.exists():
            raise pytest.UsageError(_no_path(word, path))
        if test and path.is_file():
            wanted = test.partition("[")[0].rpartition("::")[2]
            tests = _tests_in(path)
            if wanted not in tests:
                raise pytest.UsageError(f"{word} does not exist; {name} has {', '.join(tests)}")


def _no_path(word: str, path: Path) -> str:
    folder = next(parent for parent in path.parents if parent.is_dir())
    entries = sorted(
        entry.name + "/" * entry.is_dir()
        for entry in folder.iterdir()
        if entry.name.startswith("test_") or (entry / "__init__.py").is_file()
    )
    there = f"{folder} has {', '.join(entries)}" if entries else f"{folder} has no tests"
    return f"{word} does not exist; {there}"


def _tests_in(path: Path) -> list[str]:
    """Names of the functions and classes that may be chosen in a file of tests."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    nodes = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds))
    return [node.name for node in nodes if node.name.lower().startswith("test")]


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
        hardware: str | None = None,
        signing: Signing | None = None,
    ) -> None:
        self._cache = cache
        self._tools = tools
        self._version = version
        self._recipe = recipe
        self._hardware = hardware
        self._signing = signing

    def builder(self, arch: str) -> Builder:
        """The builder for one architecture."""
        return Builder(
            Arch(arch), cache=self._cache, tools=self._tools, recipe=self._recipe,
            hardware=self._hardware, signing=self._signing,
        )  # fmt: skip

    def __getitem__(self, arch: str) -> Image:
        return self.builder(arch).image(self._version)

    def __iter__(self) -> Iterator[str]:
        return iter(arch.value for arch in Arch)

    def __len__(self) -> int:
        return len(Arch)


@pytest.fixture(scope="session")
def images(request: pytest.FixtureRequest, cache: Cache, host_tools: HostTools) -> Images:
    """The image under test of each architecture, at the version that updates start from; on a
    board with an SSH server, which is how it takes commands."""
    if request.config.getoption("--backend") == LAB:
        hardware = bench_of(request.config).board.settings.hardware
        return Images(cache, host_tools, recipe=IMAGES / "appliance-ssh.toml", hardware=hardware)
    return Images(cache, host_tools)


@pytest.fixture
def harness_images(images: Images) -> Images:
    """What the harness boots: the nearest ``images``."""
    return images


@pytest.fixture(scope="session")
def harness_tools(host_tools: HostTools) -> HostTools:
    """The harness's programs: the locked ones, whose preparation is shown."""
    return host_tools
