"""A kernel that QEMU loads itself: the micro-guest of the accelerator's probe, as a machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.errors import LaunchError
from harness.journal.patterns import Pattern
from harness.qemu import accel
from harness.qemu.arch import Arch
from harness.qemu.machine import Host, Machine
from harness.qemu.spec import MachineSpec
from harness.qemu.tests.test_qemu import EMPTY_DISK
from harness.qemu.tools import HostTools

LIMIT = 120.0


@pytest.fixture
def host(host_tools: HostTools, tmp_path: Path) -> Host:
    return Host(host_tools, "tcg", 1.0, tmp_path / "runs")


def direct(arch: Arch, kernel: Path, **fields: Any) -> MachineSpec:
    """The micro-guest."""
    append = f"console={arch.serial} panic=-1 harness.word=direct"
    common = {"arch": arch, "kernel": kernel, "append": append, "memory_mib": 256}
    return MachineSpec.model_validate({**common, "network": False, "watchdog": False, **fields})


@pytest.mark.parametrize(("firmware", "disk"), [("bios", False), ("uefi", True)])
def test_a_kernel_boots_with_and_without_a_disk(
    images: Mapping[str, Any], host: Host, tmp_path: Path, firmware: str, disk: bool
) -> None:
    fields: dict[str, Any] = {"firmware": firmware}
    if disk:
        image = tmp_path / "disk.img"
        image.write_bytes(EMPTY_DISK)
        fields.update(image=image, disk_size_mib=64)
    spec = direct(Arch.X86_64, images["x86_64"].kernel, **fields)
    with Machine(spec, host, tmp_path / "artefacts") as machine:
        with machine.journal.tolerating(Pattern.PANIC):
            machine.power_on()
            deadline = machine.deadline(LIMIT)
            machine.wait_console("Command line.*harness.word=direct", deadline, since=0)
            machine.wait_console(accel.MARKER.pattern, deadline, since=0)
        machine.power_cut()
        with machine.journal.tolerating(Pattern.PANIC):
            machine.power_on()
        machine.quit()
        assert (machine.keep_disk() is not None) == disk


def test_a_machine_without_a_disk_is_saved_and_goes_on(
    images: Mapping[str, Any], host: Host, tmp_path: Path
) -> None:
    spec = direct(Arch.X86_64, images["x86_64"].kernel, firmware="bios")
    folder = tmp_path / "saved"
    folder.mkdir()
    with Machine(spec, host, tmp_path / "first") as machine:
        machine.power_on()
        saved = machine.save(folder)
    assert saved.storage.disk is None
    with (
        Machine(spec, host, tmp_path / "fork", base=saved.storage) as fork,
        fork.journal.tolerating(Pattern.PANIC),
    ):
        fork.power_on(saved)
        fork.wait_console(accel.MARKER.pattern, fork.deadline(LIMIT), since=0)


def test_a_kernel_that_is_not_there_is_said(host: Host, tmp_path: Path) -> None:
    spec = direct(Arch.X86_64, tmp_path / "vmlinuz")
    with pytest.raises(LaunchError, match=r"there is no kernel .*/vmlinuz"):
        Machine(spec, host, tmp_path / "artefacts")
    assert list(host.runs.iterdir()) == []
