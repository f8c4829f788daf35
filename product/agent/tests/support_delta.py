"""Pairs of real squashfs images, and deltas that are written by hand."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable
from pathlib import Path

import pytest

from product.agent.slots import zstd
from product.agent.slots.delta import HEADER, MAGIC
from product.image.tools import HostTools
from product.manifest import Artifact

LIBRARY = "usr/lib/x86_64-linux-gnu/libzstd.so.1"


def locked_library(tools: HostTools) -> str:
    """The locked libzstd, if this host's own Python can load it."""
    path = str(tools.root / "usr/lib" / tools.arch.multiarch / "libzstd.so.1")
    try:
        zstd.Zstd(path).close()
    except zstd.ZstdError as error:
        pytest.skip(f"this host's Python cannot load the locked libzstd: {error}")
    return path


def words(seed: int, size: int) -> bytes:
    """Bytes that compress about as well as a program."""
    chance = random.Random(seed)
    vocabulary = [chance.randbytes(chance.randint(2, 24)) for _ in range(4000)]
    out = bytearray()
    while len(out) < size:
        out += chance.choice(vocabulary)
    return bytes(out[:size])


def changed(data: bytes, seed: int, every: int = 4096) -> bytes:
    """What a new build of a library is: other addresses everywhere, and some more code."""
    chance = random.Random(seed)
    out = bytearray(data)
    for at in range(chance.randint(0, every), len(out), every):
        out[at : at + 3] = chance.randbytes(3)
    out[len(out) // 3 : len(out) // 3] = chance.randbytes(1500)
    return bytes(out)


def make_image(tools: HostTools, folder: Path, version: str, *, library: bytes) -> bytes:
    """A squashfs as the builder makes it, with one library, and many small files."""
    tree = folder / f"tree-{version}"
    for number in range(60):
        path = tree / "etc" / f"file{number:03}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(words(number, 300 + 97 * number))
    (tree / "usr/lib").mkdir(parents=True)
    (tree / "usr/lib/libcrypto.so").write_bytes(library)
    (tree / "usr/lib/other.so").write_bytes(words(1001, 2_000_000))
    (tree / "usr/noise").write_bytes(random.Random(5).randbytes(150_000))
    (tree / "etc/version").write_text(f"{version}\n")
    (tree / "etc/link").symlink_to("version")
    out = folder / f"{version}.squashfs"
    tools.run(
        "mksquashfs", tree, out, "-comp", "zstd", "-Xcompression-level", "6", "-b", "65536",
        "-all-root", "-no-xattrs", "-noappend", "-no-progress", "-quiet", "-all-time", "0",
        "-mkfs-time", "0",
    )  # fmt: skip
    return out.read_bytes()


def make_pair(tools: HostTools, folder: Path) -> tuple[bytes, bytes]:
    """Two images that differ by a library and a version."""
    library = words(1000, 900_000)
    return (
        make_image(tools, folder, "0.1.0", library=library),
        make_image(tools, folder, "0.2.0", library=changed(library, 7)),
    )


def as_artifact(data: bytes, name: str = "root.squashfs") -> Artifact:
    return Artifact(name, len(data), hashlib.sha256(data).hexdigest())


def number(value: int) -> bytes:
    """LEB128."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def signed(value: int) -> bytes:
    return number(value * 2 if value >= 0 else -value * 2 - 1)


def record(kind: int, *values: int | bytes) -> bytes:
    """A record: numbers are written as such, bytes as they are."""
    return bytes([kind]) + b"".join(
        value if isinstance(value, bytes) else number(value) for value in values
    )


def written(
    size: int,
    records: Iterable[bytes],
    *,
    work: int = 1 << 20,
    block: int = 65536,
    level: int = 6,
    version: int = 0,
) -> bytes:
    """A whole delta."""
    return MAGIC + HEADER.pack(size, work, work, block, level, version) + b"".join(records)
