"""A disk image that is made in a second: the real partition table, with a slot of random bytes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from product.image.tools import HostTools

MIB = 1 << 20


def make_disk(path: Path, tools: HostTools) -> Path:
    """A disk of 82 MiB: an EFI partition, a slot with something in it, data that is not made."""
    with path.open("wb") as stream:
        stream.truncate(82 * MIB)
    script = "label: gpt\nlabel-id: 11111111-0000-0000-0000-000000000000\nfirst-lba: 2048\n"
    for name, start, length in (("KSOLOEFI", 1, 40), ("KSOLOA", 41, 8)):
        script += f"start={start * 2048}, size={length * 2048}, name={name}\n"
    script += f"start={49 * 2048}, size={32 * 2048}, name=KSOLODATA, attrs=GUID:59\n"
    tools.run("sfdisk", "-q", "--no-reread", "--no-tell-kernel", path, stdin=script.encode())
    tools.run("mformat", "-i", f"{path}@@{MIB}", "-F", "-T", "81920", "-v", "KSOLOEFI", "::")
    with path.open("r+b") as stream:
        stream.seek(42 * MIB)
        stream.write(random.Random(4).randbytes(3 * MIB + 5))
    return path


@pytest.fixture(scope="session")
def disk(tmp_path_factory: pytest.TempPathFactory, host_tools: HostTools) -> Path:
    """The image; nobody writes to it."""
    return make_disk(tmp_path_factory.mktemp("media") / "disk.img", host_tools)
