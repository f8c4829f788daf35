"""A disk image taken apart and put together again is the same image."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from product.disk.errors import DiskError
from product.disk.pieces import REST_NAME, Document, join, parse
from product.image.errors import ImageError
from product.image.media.pieces_of import BLOCK, split
from product.image.tools import HostTools

MIB = 1 << 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files of a medium: one with zeros within, and one that is no whole blocks."""
    source = random.Random(1)
    files = tmp_path / "files"
    files.mkdir()
    root = source.randbytes(300_000) + bytes(3 * BLOCK) + source.randbytes(2 * MIB + 17)
    (files / "root.squashfs").write_bytes(root)
    (files / "vmlinuz").write_bytes(source.randbytes(70_001))
    return files


@pytest.fixture
def disk(folder: Path, tmp_path: Path, host_tools: HostTools) -> Path:
    """A real ext4 with the files, behind a table and before something else."""
    path = tmp_path / "disk.img"
    with path.open("wb") as stream:
        stream.write(b"table".ljust(512, b"t"))
        stream.truncate(18 * MIB)
        stream.seek(18 * MIB - 512)
        stream.write(b"end".ljust(512, b"e"))
    host_tools.run(
        "mke2fs", "-q", "-F", "-t", "ext4", "-b", str(BLOCK), "-d", folder, "-E",
        f"offset={MIB}", path, "16384k",
    )  # fmt: skip
    return path


def taken_apart(disk: Path, folder: Path) -> Document:
    files = {path.name: path for path in sorted(folder.iterdir())}
    return split(disk, files, folder / REST_NAME)


def opener(folder: Path) -> Callable[[str], int]:
    return lambda name: os.open(folder / name, os.O_RDONLY)


def put_together(document: Document, folder: Path, target: Path) -> bytes:
    with target.open("w+b") as stream:
        join(document, opener(folder), stream.fileno())
    return target.read_bytes()


def test_an_image_comes_back_byte_for_byte(disk: Path, folder: Path, tmp_path: Path) -> None:
    document = parse(taken_apart(disk, folder).to_bytes(), "disk.json")
    data = put_together(document, folder, tmp_path / "copy")
    assert data == disk.read_bytes()
    assert document.size == len(data)
    assert document.sha256 == hashlib.sha256(data).hexdigest()


def test_a_file_is_held_once(disk: Path, folder: Path) -> None:
    document = taken_apart(disk, folder)
    for name in ("root.squashfs", "vmlinuz"):
        held = sum(piece.length for piece in document.pieces if piece.file == name)
        # What ext4 has made of its blocks of zeros is a hole, which no piece covers.
        assert held >= (folder / name).stat().st_size - 3 * BLOCK
    root = (folder / "root.squashfs").read_bytes()
    rest = (folder / REST_NAME).read_bytes()
    assert not any(root[at : at + BLOCK] in rest for at in range(0, MIB // 4, BLOCK))
    assert 0 < len(rest) < MIB


def test_what_the_target_held_before_is_gone(disk: Path, folder: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.write_bytes(b"\xff" * (20 * MIB))
    document = taken_apart(disk, folder)
    descriptor = os.open(old, os.O_RDWR)
    join(document, opener(folder), descriptor)
    os.close(descriptor)
    assert old.read_bytes() == disk.read_bytes()


def test_equal_images_give_equal_documents(disk: Path, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    filled = tmp_path / "filled.img"
    # The same bytes without a hole.
    filled.write_bytes(disk.read_bytes())
    assert taken_apart(disk, folder) == taken_apart(filled, other)
    assert (folder / REST_NAME).read_bytes() == (other / REST_NAME).read_bytes()


@pytest.mark.parametrize("name", ["root.squashfs", REST_NAME])
def test_a_changed_byte_is_found(name: str, disk: Path, folder: Path, tmp_path: Path) -> None:
    document = taken_apart(disk, folder)
    data = bytearray((folder / name).read_bytes())
    data[BLOCK + 1] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(DiskError, match=f"{name} from byte .* do not match"):
        put_together(document, folder, tmp_path / "copy")


def test_a_short_file_is_found(disk: Path, folder: Path, tmp_path: Path) -> None:
    document = taken_apart(disk, folder)
    os.truncate(folder / "root.squashfs", MIB)
    with pytest.raises(DiskError, match=r"root\.squashfs ends at byte"):
        put_together(document, folder, tmp_path / "copy")


GOOD = {
    "size": 8192,
    "sha256": "0" * 64,
    "pieces": [{"at": 0, "length": 4096, "file": "a", "from": 0, "sha256": "0" * 64}],
}


@pytest.mark.parametrize(
    "change",
    [
        {"size": -1}, {"size": "8192"}, {"size": True}, {"sha256": "x"}, {"pieces": 3},
        {"pieces": [{**GOOD["pieces"][0], "file": "../etc/passwd"}]},  # type: ignore[index]
        {"pieces": [{**GOOD["pieces"][0], "file": ""}]},  # type: ignore[index]
        {"pieces": [{**GOOD["pieces"][0], "length": 0}]},  # type: ignore[index]
        {"pieces": [{**GOOD["pieces"][0], "length": 9000}]},  # type: ignore[index]
        {"pieces": [GOOD["pieces"][0], GOOD["pieces"][0]]},  # type: ignore[index]
        {"pieces": [{"at": 0}]},
    ],
)  # fmt: skip
def test_what_is_no_document_is_said(change: dict[str, object]) -> None:
    assert parse(json.dumps(GOOD).encode(), "disk.json").size == 8192
    with pytest.raises(DiskError, match=r"disk\.json does not describe a disk image"):
        parse(json.dumps({**GOOD, **change}).encode(), "disk.json")


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff", b"[" * 100_000])
def test_neither_is_anything_else(data: bytes) -> None:
    with pytest.raises(DiskError, match="does not describe"):
        parse(data, "disk.json")


def test_an_image_is_whole_blocks(tmp_path: Path) -> None:
    disk = tmp_path / "disk.img"
    disk.write_bytes(b"x" * 4097)
    with pytest.raises(ImageError, match="4097 bytes"):
        split(disk, {}, tmp_path / REST_NAME)
