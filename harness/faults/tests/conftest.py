"""A machine without a guest: firmware, and a disk that QEMU itself reads and writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.faults.stick import CONTROLLER
from harness.profile import Profile
from harness.qemu.machine import Host, Machine
from harness.qemu.spec import MachineSpec
from harness.qemu.tools import HostTools

# A partition table's signature and nothing else.
EMPTY_DISK = (bytes(512) + b"EFI PART").ljust(1 << 20, b"\0")


@pytest.fixture
def machine(host_tools: HostTools, tmp_path: Path) -> Iterator[Machine]:
    image = tmp_path / "disk.img"
    image.write_bytes(EMPTY_DISK)
    spec = MachineSpec.model_validate(
        {
            "arch": "x86_64",
            "image": image,
            "firmware": "bios",
            "memory_mib": 128,
            "disk_size_mib": 64,
            "extra": CONTROLLER,
        }
    )
    host = Host(host_tools, "tcg", 1.0, tmp_path / "runs", profile=Profile())
    with Machine(spec, host, tmp_path / "artefacts") as made:
        made.power_on()
        yield made
