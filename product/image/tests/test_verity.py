"""The tree of hashes behind a root, and the program that opens it in early boot."""

from __future__ import annotations

import hashlib
import random
import shutil
from pathlib import Path

import pytest

from product.image import elf, verity
from product.image.build import DEFAULT_RECIPE, Builder
from product.image.cache import Cache
from product.image.errors import ImageError, RecipeError, ToolError
from product.image.recipe import Arch
from product.image.rootfs import packages_tree
from product.image.tools import HostTools
from product.image.verity import BLOCK_SIZE
from product.manifest import ARGUMENTS_NAME, INITRAMFS_NAME, ROOT_NAME


def _tree(data: bytes) -> tuple[str, bytes]:
    """Root hash and tree as the kernel's document has them: the levels from the top down."""
    levels = []
    while len(data) > BLOCK_SIZE:
        blocks = range(0, len(data), BLOCK_SIZE)
        hashes = b"".join(hashlib.sha256(data[at : at + BLOCK_SIZE]).digest() for at in blocks)
        data = hashes.ljust(-(-len(hashes) // BLOCK_SIZE) * BLOCK_SIZE, b"\0")
        levels.append(data)
    return hashlib.sha256(data).hexdigest(), b"".join(reversed(levels))


def _root(path: Path, blocks: int) -> bytes:
    data = random.Random(blocks).randbytes(blocks * BLOCK_SIZE)
    path.write_bytes(data)
    return data


# One level, a full one, and two.
@pytest.mark.parametrize("blocks", [2, 128, 129, 300])
def test_the_tree_is_the_one_that_the_kernel_documents(
    host_tools: HostTools, tmp_path: Path, blocks: int
) -> None:
    root = tmp_path / "root"
    data = _root(root, blocks)
    found = verity.append(root, host_tools)
    root_hash, tree = _tree(data)
    assert found == (root_hash, blocks)
    assert root.read_bytes() == data + tree
    assert found.arguments() == (
        f"kubesolo.roothash={root_hash}",
        f"kubesolo.rootblocks={blocks}",
    )


@pytest.mark.parametrize("size", [0, 4095, 4097])
def test_a_root_that_is_not_whole_blocks_is_refused(
    host_tools: HostTools, tmp_path: Path, size: int
) -> None:
    root = tmp_path / "root"
    root.write_bytes(bytes(size))
    with pytest.raises(ImageError, match=f"has {size} bytes, not whole blocks of 4096"):
        verity.append(root, host_tools)


@pytest.mark.parametrize("arch", list(Arch))
def test_a_slots_command_line_has_the_hash_of_its_root(
    cache: Cache, host_tools: HostTools, arch: Arch
) -> None:
    slot = Builder(arch, cache=cache, tools=host_tools).slot("0.1.0")
    text = (slot.folder / ARGUMENTS_NAME).read_text()
    words = dict(word.split("=", 1) for word in text.split() if word.startswith("kubesolo."))
    data = (slot.folder / ROOT_NAME).read_bytes()
    size = int(words[verity.ROOT_BLOCKS]) * BLOCK_SIZE
    root_hash, tree = _tree(data[:size])
    assert words[verity.ROOT_HASH] == root_hash
    assert data[size:] == tree
    # The file system itself is what lies before the tree.
    assert 0 <= size - int.from_bytes(data[40:48], "little") < BLOCK_SIZE


def test_one_changed_byte_of_root_or_tree_is_found(host_tools: HostTools, tmp_path: Path) -> None:
    root = tmp_path / "root"
    data = _root(root, 300)
    found = verity.append(root, host_tools)

    def check() -> None:
        host_tools.run(
            "veritysetup", "verify", "--no-superblock", "--salt", "-", "--data-blocks", "300",
            "--hash-offset", str(len(data)), root, root, found.root_hash,
        )  # fmt: skip

    check()
    whole = root.read_bytes()
    for at in (0, 150 * BLOCK_SIZE + 7, len(data), len(data) + 2 * BLOCK_SIZE + 9):
        changed = bytearray(whole)
        changed[at] ^= 1
        root.write_bytes(changed)
        with pytest.raises(ToolError):
            check()


@pytest.mark.parametrize("arch", list(Arch))
def test_dmsetup_is_in_the_initramfs_with_all_that_it_needs(
    cache: Cache, host_tools: HostTools, arch: Arch, tmp_path: Path
) -> None:
    builder = Builder(arch, cache=cache, tools=host_tools)
    packed = (builder.slot("0.1.0").folder / INITRAMFS_NAME).read_bytes()
    archive = host_tools.run("zstd", "-d", "-c", stdin=packed)
    files = _files(archive)
    waiting, seen = ["bin/dmsetup"], set()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        wanted = elf.needs(files[name], name)
        places = [f"lib/{library}" for library in wanted.libraries]
        if wanted.loader:
            places.append(wanted.loader.lstrip("/"))
        loaders = {name.rpartition("/")[2]: name for name in seen}
        waiting += [
            place
            for place in places
            if place not in seen and place.rpartition("/")[2] not in loaders
        ]
    assert {"lib/libc.so.6", "lib/libdevmapper.so.1.02.1"} < seen
    modules = files["lib/modules/verity"].decode().split()
    assert modules.index("dm-mod.ko") < modules.index("dm-verity.ko")
    fast = {Arch.X86_64: "sha256-ssse3.ko", Arch.AARCH64: "sha2-ce.ko"}[arch]
    assert fast in modules
    assert all(f"lib/modules/{name}" in files for name in modules)


def _files(archive: bytes) -> dict[str, bytes]:
    """The files of a cpio archive by name."""
    found: dict[str, bytes] = {}
    at = 0
    while True:
        numbers = [int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        length, size = numbers[11], numbers[6]
        name = archive[at + 110 : at + 110 + length - 1].decode()
        begin = at + -(-(110 + length) // 4) * 4
        if name == "TRAILER!!!":
            return found
        found[name] = archive[begin : begin + size]
        at = begin + -(-size // 4) * 4


def test_what_the_packages_lack_is_named(
    cache: Cache, host_tools: HostTools, tmp_path: Path
) -> None:
    builder = Builder(Arch.X86_64, cache=cache, tools=host_tools, recipe=DEFAULT_RECIPE)
    packages = packages_tree(builder.recipe, builder.lock, Arch.X86_64, cache, host_tools)
    root = tmp_path / "root"
    (root / "usr/sbin").mkdir(parents=True)
    with pytest.raises(RecipeError, match="hold no usr/sbin/dmsetup, which early boot needs"):
        elf.closure(root, "usr/sbin/dmsetup", Arch.X86_64)
    shutil.copy(packages / "usr/sbin/dmsetup", root / "usr/sbin")
    (root / "lib64").mkdir()
    shutil.copy(packages / "lib64/ld-linux-x86-64.so.2", root / "lib64")
    with pytest.raises(RecipeError, match=r"hold no usr/lib/x86_64-linux-gnu/lib\S+\.so"):
        elf.closure(root, "usr/sbin/dmsetup", Arch.X86_64)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"#!/bin/sh\n", "is no program of 64 bits"),
        (b"\x7fELF\x02\x01", "is no whole program"),
        (b"\x7fELF\x02\x01".ljust(32, b"\0") + b"\xff" * 40, "is no whole program"),
    ],
)
def test_what_is_no_program_is_named(data: bytes, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        elf.needs(data, "bin/thing")
