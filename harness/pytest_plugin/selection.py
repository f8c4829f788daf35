"""Which scenarios run, where and in which order."""

from __future__ import annotations

import pytest

from harness.abilities import QEMU
from harness.pytest_plugin.lab import bench_of, board_lacks, is_lab
from harness.pytest_plugin.scenario import BACKENDS
from harness.qemu.arch import Arch
from harness.qemu.devices import Watchdog

# The fixture that is run once for each architecture.
ARCH = "harness_arch"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what has an architecture once for each that is selected and possible."""
    if ARCH not in metafunc.fixturenames:
        return
    option = metafunc.config.getoption("--arch")
    selected = list(Arch) if option == "all" else [Arch(option)]
    if is_lab(metafunc.config):
        # A board has one, whatever is asked for.
        selected = [arch for arch in selected if arch is bench_of(metafunc.config).arch]
    allowed = {
        Arch(name) for mark in metafunc.definition.iter_markers("arch") for name in mark.args
    }
    chosen = [arch for arch in selected if not allowed or arch in allowed]
    metafunc.parametrize(ARCH, chosen, ids=[arch.value for arch in chosen], scope="session")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Scenarios with several processors before the others: they take turns, and all others fit
    beside them. What is no scenario keeps its place."""
    places = [place for place, item in enumerate(items) if item.get_closest_marker("scenario")]
    ordered = sorted((items[place] for place in places), key=lambda item: _processors(item) == 1)
    for place, item in zip(places, ordered, strict=True):
        items[place] = item


def _processors(item: pytest.Item) -> int:
    for mark in item.iter_markers("machine"):
        if "cpus" in mark.kwargs:
            return int(mark.kwargs["cpus"])
    return 1


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip scenarios, with the reason, that the backend or the machine cannot do."""
    if item.get_closest_marker("scenario") is None:
        return
    for mark in item.iter_markers("scenario"):
        backends = mark.kwargs.get("backend", BACKENDS)
        backend = item.config.getoption("--backend")
        if backend not in backends:
            pytest.skip(f"needs one of {sorted(backends)}, this is {backend}")
    if missing := lacking(item):
        who = bench_of(item.config).name if is_lab(item.config) else f"{_arch(item)} machines"
        pytest.skip(f"{who} {'has' if is_lab(item.config) else 'have'} no {', '.join(missing)}")


def _arch(item: pytest.Item) -> Arch | None:
    # Only parametrized functions have a callspec; pytest's types name it for none.
    arch = getattr(getattr(item, "callspec", None), "params", {}).get(ARCH)
    return arch if isinstance(arch, Arch) else None


def lacking(item: pytest.Item) -> list[str]:
    """The abilities that a scenario needs, and its machines or the board lack."""
    if (arch := _arch(item)) is None:
        return []
    if is_lab(item.config):
        return board_lacks(item)
    abilities = {firmware.value for firmware in arch.firmwares}
    abilities |= {watchdog.value for watchdog in Watchdog if watchdog.is_of(arch)}
    abilities |= {ability.value for ability in QEMU}
    return sorted({name for mark in item.iter_markers("needs") for name in mark.args} - abilities)
