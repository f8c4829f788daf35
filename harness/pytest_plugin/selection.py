"""Which scenarios run, where and in which order."""

from __future__ import annotations

import pytest

from harness.pytest_plugin.scenario import BACKENDS
from harness.qemu.arch import Arch
from harness.qemu.devices import Watchdog

BACKEND = "qemu"
# Where the fixture lies that has no value of its own.
_FIXTURES = "harness.pytest_plugin.fixtures"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what has an architecture once for each that is selected and possible."""
    if "arch" not in metafunc.fixturenames or _has_own_arch(metafunc):
        return
    option = metafunc.config.getoption("--arch")
    selected = list(Arch) if option == "all" else [Arch(option)]
    allowed = {
        Arch(name) for mark in metafunc.definition.iter_markers("arch") for name in mark.args
    }
    chosen = [arch for arch in selected if not allowed or arch in allowed]
    metafunc.parametrize("arch", chosen, ids=[arch.value for arch in chosen], scope="session")


def _has_own_arch(metafunc: pytest.Metafunc) -> bool:
    """Whether the test gives itself an argument or a fixture of that name."""
    for mark in metafunc.definition.iter_markers("parametrize"):
        names = mark.args[0] if mark.args else mark.kwargs["argnames"]
        if "arch" in ([n.strip() for n in names.split(",")] if isinstance(names, str) else names):
            return True
    definitions = metafunc.definition._fixtureinfo.name2fixturedefs.get("arch", ())
    return any(definition.func.__module__ != _FIXTURES for definition in definitions)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Machines with several processors first: they take turns, and all others fit beside them."""
    items.sort(key=lambda item: _processors(item) == 1)


def _processors(item: pytest.Item) -> int:
    for mark in item.iter_markers("machine"):
        if "cpus" in mark.kwargs:
            return int(mark.kwargs["cpus"])
    return 1


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, with the reason, what the backend or the machine cannot do."""
    for mark in item.iter_markers("scenario"):
        backends = mark.kwargs.get("backend", BACKENDS)
        if BACKEND not in backends:
            pytest.skip(f"needs one of {sorted(backends)}, this is {BACKEND}")
    # Only parametrized functions have a callspec; pytest's types name it for none.
    arch = getattr(item, "callspec", None) and item.callspec.params.get("arch")  # type: ignore[attr-defined]
    if not isinstance(arch, Arch):
        return
    abilities = {firmware.value for firmware in arch.firmwares}
    abilities |= {watchdog.value for watchdog in Watchdog if watchdog.is_of(arch)}
    for mark in item.iter_markers("needs"):
        if missing := set(mark.args) - abilities:
            pytest.skip(f"{arch} machines have no {', '.join(sorted(missing))}")
