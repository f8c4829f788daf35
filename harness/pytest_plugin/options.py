"""Options and markers of the harness."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.qemu.arch import Arch

_MARKERS = (
    "scenario(backend, tier, core_arch): a test of a whole node",
    "arch(name): runs on this architecture alone",
    "needs(ability, ...): skipped where the machine lacks an ability (bios, uefi, i6300esb, itco)",
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


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers."""
    for marker in _MARKERS:
        config.addinivalue_line("markers", marker)
