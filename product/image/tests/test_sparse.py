"""Files with holes: copied with them, hashed without reading them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from product.image import sparse
from product.image.errors import ImageError

MIB = 1 << 20


def written(path: Path, size: int, *parts: tuple[int, bytes]) -> Path:
    with path.open("wb") as stream:
        for offset, data in parts:
            stream.seek(offset)
            stream.write(data)
        stream.truncate(size)
    path.chmod(0o640)
    return path


FILES = {
    "empty": (0, ()),
    "a hole alone": (3 * MIB + 5, ()),
    "data alone": (7, ((0, b"content"),)),
    "data at both ends": (5 * MIB, ((0, b"begin"), (5 * MIB - 3, b"end"))),
    "a hole at both ends": (9 * MIB + 1, ((4 * MIB + 3, b"middle" * MIB),)),
}


@pytest.mark.parametrize("name", FILES)
def test_holes_are_hashed_and_copied_as_the_zeros_that_they_are(name: str, tmp_path: Path) -> None:
    size, parts = FILES[name]
    source = written(tmp_path / "source", size, *parts)
    with sparse.GrowingSum(source) as growing:
        for limit in range(0, size, 2 * MIB + 7):
            growing.reach(limit)
        assert growing.finish() == hashlib.sha256(source.read_bytes()).hexdigest()
    target = tmp_path / "target"
    target.write_bytes(b"what was here before" * MIB)
    sparse.copy(source, target)
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_mode == source.stat().st_mode
    assert target.stat().st_blocks <= source.stat().st_blocks


def test_an_image_is_written_to_files_alone(tmp_path: Path) -> None:
    """Holes would leave what a device held before."""
    source = written(tmp_path / "source", MIB, (0, b"x"))
    for other in (tmp_path, Path(os.devnull)):
        with pytest.raises(ImageError, match="is no regular file"):
            sparse.copy(source, other)
