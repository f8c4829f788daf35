"""The ISO image starts the system from memory, as a CD and as a stick, under each firmware."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.pytest_plugin.scenario import scenario
from harness.qemu.arch import Firmware
from harness.qemu.devices import MediumBus
from harness.target.node import Node
from product.image.tools import HostTools

Machines = Callable[..., Node]
# The root is copied to memory, and so is what the kernel caches of the medium.
MEMORY_MIB = 1024


@pytest.fixture
def data_disk(tmp_path: Path, host_tools: HostTools) -> Path:
    """A disk that somebody has prepared for a live system's data."""
    path = tmp_path / "data.img"
    with path.open("wb") as stream:
        stream.truncate(64 << 20)
    host_tools.run("mke2fs", "-q", "-F", "-t", "ext4", "-L", "KSOLODATA", path)
    return path


def require_live(node: Node) -> None:
    """It runs from the medium, is well, and refuses what needs a disk of its own."""
    status = node.status()
    assert status.boot.mode == "live", status.boot
    assert not status.problems, status.problems
    refused = node.fail(["kubesolo-update", "apply"], exit=11)
    assert b"runs from a medium: there is nothing to update" in refused.stderr, refused
    assert b"live, from a medium" in node.succeed(["kubesolo-update", "status"]).stdout


@scenario(arch="x86_64", memory_mib=MEMORY_MIB, firmware=Firmware.BIOS)
def test_a_cd_runs_from_memory_under_bios(machine_factory: Machines, iso: Path) -> None:
    node = machine_factory(image=None, cdrom=iso)
    ready = node.boot()
    assert (ready.version, ready.confirmed) == ("0.1.0", True)
    require_live(node)
    assert node.status().boot.data == "nopersist"


@scenario(memory_mib=MEMORY_MIB)
def test_a_cd_under_uefi_keeps_data_on_a_labelled_disk(
    machine_factory: Machines, iso: Path, data_disk: Path
) -> None:
    node = machine_factory(image=None, cdrom=iso, seed=data_disk)
    node.boot()
    require_live(node)
    assert node.status().boot.data == "persistent"
    node.succeed("echo kept > /var/lib/kubesolo/note && sync")
    node.reboot()
    node.wait_ready()
    assert node.succeed("cat /var/lib/kubesolo/note").stdout.strip() == b"kept"


@scenario(arch="x86_64", memory_mib=MEMORY_MIB, secure_boot=True)
def test_a_stick_runs_from_memory_under_secure_boot(machine_factory: Machines, iso: Path) -> None:
    node = machine_factory(image=None, cdrom=iso, cdrom_bus=MediumBus.USB)
    node.boot()
    require_live(node)
    assert node.status().secure_boot == "on"
