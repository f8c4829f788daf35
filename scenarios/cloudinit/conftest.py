"""Seed disks for scenarios, and a disk image as a flashing tool leaves it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from harness.target.node import Node
from product.image.seed import Kind, seed_image
from product.image.tools import HostTools

MIB = 1 << 20
# Where KSOLOEFI begins on every image.
ESP_AT = MIB


@pytest.fixture
def seed(tmp_path: Path, host_tools: HostTools) -> Callable[..., Path]:
    """Make a seed disk of files, given as text; the rest is as ``product.image.seed`` has it."""
    numbers = itertools.count(1)

    def make(
        files: Mapping[str, str],
        kind: Kind = "vfat",
        *,
        partitioned: bool = False,
        rock_ridge: bool = True,
    ) -> Path:
        return seed_image(
            tmp_path / f"seed-{next(numbers)}",
            {name: text.encode() for name, text in files.items()},
            kind,
            partitioned=partitioned,
            rock_ridge=rock_ridge,
            tools=host_tools,
        )

    return make


@pytest.fixture
def read_seed(host_tools: HostTools) -> Callable[..., str]:
    """Read a file of the seed disk of a node that is off."""

    def read(node: Node, name: str, *, partitioned: bool = False) -> str:
        disk = node.machine.storage.seed
        assert disk is not None
        place = f"{disk}@@{MIB}" if partitioned else str(disk)
        return host_tools.run("mtype", "-i", place, f"::{name}").decode()

    return read
