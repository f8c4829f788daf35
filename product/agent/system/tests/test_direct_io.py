"""Reading past the page cache, and writing without filling it."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import random
from pathlib import Path

import pytest

from product.agent.system import direct_io


def cached(path: Path) -> int:
    """How many pages of ``path`` the page cache holds (mincore(2), which Python does not have)."""
    size = path.stat().st_size
    pages = ctypes.create_string_buffer(-(-size // mmap.PAGESIZE))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), size) as mapped:
        address = ctypes.c_char.from_buffer(mapped)
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            where = ctypes.c_void_p(ctypes.addressof(address))
            assert libc.mincore(where, ctypes.c_size_t(size), pages) == 0
        finally:
            del address
    return sum(page & 1 for page in pages.raw[: -(-size // mmap.PAGESIZE)])


def forget(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


@pytest.mark.parametrize(
    "size", [0, 1, 512, 4096, 5000, direct_io.CHUNK, direct_io.CHUNK + 1, 3 * direct_io.CHUNK - 7]
)
@pytest.mark.parametrize("direct", [True, False], ids=["direct", "without direct I/O"])
def test_what_was_written_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, direct: bool
) -> None:
    real = os.open
    opened: list[int] = []

    def refuse(path: str, flags: int) -> int:
        opened.append(flags)
        if flags & os.O_DIRECT and not direct:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return real(path, flags)

    path = tmp_path / "file"
    data = random.Random(size).randbytes(size)
    path.write_bytes(data)
    monkeypatch.setattr(os, "open", refuse)
    pieces = [bytes(piece) for piece in direct_io.from_disk(str(path))]
    assert b"".join(pieces) == data
    assert all(len(piece) <= direct_io.CHUNK for piece in pieces)
    assert opened[0] & os.O_DIRECT


def test_reading_asks_the_device_and_leaves_the_cache_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(3 * direct_io.CHUNK))
    forget(path)
    if cached(path):
        pytest.skip("this file system keeps what it is asked to forget")
    assert sum(map(len, direct_io.from_disk(str(path)))) == 3 * direct_io.CHUNK
    assert not cached(path)
    path.read_bytes()
    assert cached(path), "the test cannot tell"


def test_a_reader_that_stops_early_leaves_nothing_open(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(3 * direct_io.CHUNK))
    before = len(os.listdir("/proc/self/fd"))
    pieces = direct_io.from_disk(str(path))
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]  # a generator, declared as what it is used as
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(direct_io.from_disk(str(tmp_path / "file")))


def test_what_was_written_is_sent_in_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(
        os, "posix_fadvise", lambda fd, begin, length, advice: asked.append((begin, length))
    )
    mega = 1024 * 1024
    writeback = direct_io.Writeback(7, 2 * mega)
    for end in range(3 * mega, 16 * mega, mega):
        writeback.written(end)
    assert asked == [(0, 6 * mega), (2 * mega, 8 * mega), (6 * mega, 8 * mega)]
