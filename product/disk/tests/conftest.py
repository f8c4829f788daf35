"""A disk as an image leaves it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from product.image.cache import Cache
from product.image.tools import HostTools

MIB = 1 << 20
# The end of an image: 64 MiB of data at 16 MiB, and room for the backup.
IMAGE_MIB = 81


@pytest.fixture(scope="session")
def tools() -> HostTools:
    """The locked host programs."""
    return HostTools.prepare(Cache())


@pytest.fixture
def flashed(tools: HostTools, tmp_path: Path) -> Callable[[int], Path]:
    """An image's table, by sfdisk, at the front of a sparse disk of so many bytes."""

    def make(size: int) -> Path:
        path = tmp_path / f"disk-{size}"
        with path.open("wb") as stream:
            stream.truncate(IMAGE_MIB * MIB)
        script = "label: gpt\nlabel-id: 11111111-0000-0000-0000-000000000000\nfirst-lba: 2048\n"
        rows = (("KSOLOEFI", 1, 5), ("KSOLOA", 6, 5), ("KSOLOB", 11, 5), ("KSOLODATA", 16, 64))
        for number, (name, start, length) in enumerate(rows, 1):
            attributes = ", attrs=GUID:59" if name == "KSOLODATA" else ""
            script += (
                f"start={start * 2048}, size={length * 2048}, name={name}, "
                f"uuid={number}1111111-0000-0000-0000-000000000000{attributes}\n"
            )
        tools.run("sfdisk", "-q", "--no-reread", "--no-tell-kernel", path, stdin=script.encode())
        with path.open("r+b") as stream:
            stream.truncate(size)
        return path

    return make
