"""Options and markers of the harness."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.profile import INI, LINUX, Profile, ProfileError, load
from harness.pytest_plugin import hooks
from harness.pytest_plugin.scenario import BACKENDS, QEMU
from harness.qemu.arch import Arch

_PROFILE = pytest.StashKey[Profile]()
_MARKERS = (
    "scenario(backend, tier, core_arch): a test of a whole node",
    "arch(name): runs on this architecture alone",
    "needs(ability, ...): skipped where the target lacks one (harness.abilities, bios, uefi, itco)",
    "machine(**fields): fields of MachineSpec that differ from the defaults",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The harness's options."""
    group = parser.getgroup("harness")
    group.addoption(
        "--arch",
        choices=[*(arch.value for arch in Arch), "all"],
        default="all",
        help="architectures that scenarios run on (default: all)",
    )
    group.addoption(
        "--artefacts",
        type=Path,
        default=Path("out/scenarios"),
        help="where scenarios leave their evidence (default: out/scenarios)",
    )
    group.addoption(
        "--history",
        type=Path,
        metavar="FILE",
        help="where each run is recorded for the trend (default: history.jsonl among the evidence)",
    )
    group.addoption(
        "--backend",
        choices=sorted(BACKENDS),
        default=QEMU,
        help="what scenarios run on: this host's QEMU, or a board in a lab (default: qemu)",
    )
    group.addoption(
        "--lg-env", type=Path, metavar="FILE", help="labgrid's environment file of the lab's board"
    )
    group.addoption(
        "--pack-failures",
        action="store_true",
        help="save a failed scenario's machines as they are, and pack it into one file beside its "
        "evidence, which `harness replay` opens elsewhere",
    )
    parser.addini(INI, "the profile of the system under test, as module:attribute")


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """What a project may implement."""
    pluginmanager.add_hookspecs(hooks)


def profile_of(config: pytest.Config) -> Profile:
    """The profile of the run. Raises UsageError where the option names none."""
    if _PROFILE not in config.stash:
        try:
            named = str(config.getini(INI) or "")
            config.stash[_PROFILE] = load(named) if named else LINUX
        except ProfileError as error:
            hint = f"; {error.hint}" if error.hint else ""
            raise pytest.UsageError(f"{INI}: {error.message}{hint}") from None
    return config.stash[_PROFILE]


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers; say at once where the profile that is named is none."""
    if config.getini(INI):
        profile_of(config)
    for marker in _MARKERS:
        config.addinivalue_line("markers", marker)
