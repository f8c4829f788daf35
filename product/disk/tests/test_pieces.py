"""A disk as pieces of files: what is read, what is refused, what is written."""

from __future__ import annotations

import hashlib
import io
import json
import random
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from product.disk.pieces import Document, Piece, PiecesError, join

ROOT = random.Random(1).randbytes(9000)
REST = random.Random(2).randbytes(4096)


def piece(at: int, file: str, data: bytes, start: int, length: int) -> Piece:
    return Piece(at, length, file, start, hashlib.sha256(data[start : start + length]).hexdigest())


def disk() -> bytes:
    whole = bytearray(40_000)
    whole[0:4096] = REST
    whole[8192:12288] = ROOT[:4096]
    whole[20480:25384] = ROOT[4096:]
    return bytes(whole)


def document() -> Document:
    pieces = (
        piece(0, "rest.bin", REST, 0, 4096),
        piece(8192, "root.squashfs", ROOT, 0, 4096),
        piece(20480, "root.squashfs", ROOT, 4096, 4904),
    )
    return Document(40_000, hashlib.sha256(disk()).hexdigest(), pieces)


def files(**changed: bytes) -> Any:
    held = {"rest.bin": REST, "root.squashfs": ROOT, **changed}

    def opened(name: str) -> BinaryIO:
        return io.BytesIO(held[name])

    return opened


def joined(target: Path, **changed: bytes) -> bytes:
    with target.open("w+b") as stream:
        stream.truncate(40_000)
        join(document(), files(**changed), stream.fileno())
    return target.read_bytes()


def test_the_disk_comes_back_and_what_no_piece_covers_is_zeros(tmp_path: Path) -> None:
    assert Document.parse(document().to_bytes()) == document()
    assert joined(tmp_path / "disk") == disk()


def test_a_changed_byte_is_found_in_each_piece(tmp_path: Path) -> None:
    for at in (0, 5000, 8999):
        wrong = bytearray(ROOT)
        wrong[at] ^= 1
        with pytest.raises(PiecesError, match=r"root\.squashfs is damaged"):
            joined(tmp_path / "disk", **{"root.squashfs": bytes(wrong)})


def test_a_file_that_ends_early_is_named(tmp_path: Path) -> None:
    with pytest.raises(PiecesError, match=r"root\.squashfs ends at byte 8000"):
        joined(tmp_path / "disk", **{"root.squashfs": ROOT[:8000]})


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("size",), -1), (("size",), "40000"), (("size",), True), (("sha256",), "ABC"),
        (("pieces",), "x"), (("pieces",), None), (("pieces", 0), None),
        (("pieces", 1, "at"), 4095), (("pieces", 1, "length"), 0), (("pieces", 2, "length"), 19521),
        (("pieces", 1, "file"), "../root"), (("pieces", 1, "file"), "/etc/passwd"),
        (("pieces", 1, "from"), 1.5), (("pieces", 1, "sha256"), None),
    ],
)  # fmt: skip
def test_a_document_that_cannot_be_is_refused(place: tuple[str | int, ...], value: object) -> None:
    raw = json.loads(document().to_bytes())
    *way, last = place
    inside = raw
    for step in way:
        inside = inside[step]
    inside[last] = value
    with pytest.raises(PiecesError, match=r"disk\.json is damaged"):
        Document.parse(json.dumps(raw).encode())


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff", b"[" * 100_000])
def test_what_is_no_document_is_refused(data: bytes) -> None:
    with pytest.raises(PiecesError, match=r"disk\.json is damaged"):
        Document.parse(data)
