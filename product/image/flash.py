"""Writing an image to a disk or a file, with what one machine needs of its own.

The first MiB, which has the partition table, is written last, after all the rest was read back: a
disk whose writing was interrupted has no table and starts nothing. A file appears under its name
when it is whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from product.disk.block import flush, write_all
from product.image import sources, sparse, target
from product.image.errors import ImageError
from product.image.inject import Places, esp_with
from product.image.sources import Medium
from product.image.tools import HostTools

_BLOCK = 4 << 20
# The disk is made to write as often: progress would run ahead of it.
_SYNC = 64 << 20
_HEAD = 1 << 20
_ZERO = bytes(_BLOCK)

# What is done ("write", "verify"), bytes done, bytes in all.
Progress = Callable[[str, int, int], None]


class Piece(NamedTuple):
    """Bytes ``start`` to ``end`` of the disk: from ``source``, at ``offset`` there, or zeros."""

    start: int
    end: int
    source: int | None = None
    offset: int = 0

    @property
    def length(self) -> int:
        """Bytes."""
        return self.end - self.start


class Flashed(NamedTuple):
    """What was done: bytes ``written``, and their SHA-256, which was read back from the disk."""

    written: int
    sha256: str


def flash(
    image: Path,
    path: Path,
    tools: HostTools,
    work: Path,
    *,
    files: Mapping[str, bytes] | None = None,
    repository: Path | None = None,
    meant: str | None = None,
    progress: Progress = lambda *_: None,
) -> Flashed:
    """Write ``image`` to ``path`` with ``files`` and ``repository`` on its EFI partition.

    An installation medium is written as it is, and takes neither.
    ``meant`` must repeat the path of a disk. ``work`` is a folder for a copy of that partition.
    Raises ImageError before anything is written, or with what state the disk is in; OSError.
    """
    places = sources.look_at(image)
    device = target.inspect(path)
    if device is None and path.exists() and path.samefile(image):
        raise ImageError(f"{path} is the image itself", hint="name another file, or a disk")
    target.require_room(path, device, places.size)
    target.require_meant(str(path), device, meant)
    if isinstance(places, Places):
        esp = esp_with(image, places, files or {}, repository, tools, work)
    elif files or repository is not None:
        raise sources.plain(image)
    else:
        esp = image
    partial = path if device is not None else path.with_name(f"{path.name}.part")
    with contextlib.ExitStack() as stack:
        source, changed = (
            stack.enter_context(file.open("rb", buffering=0)).fileno() for file in (image, esp)
        )
        pieces = list(_pieces(places, source, changed))
        # Configuration may hold keys and passwords; the image may be one that was flashed already.
        private = bool(files) or not image.stat().st_mode & 0o077
        descriptor = target.open_for_writing(partial, device, private=private)
        stack.callback(os.close, descriptor)
        try:
            done = _Writer(descriptor, pieces, device, progress).run(places.size)
        except BaseException as error:
            if device is None:
                partial.unlink(missing_ok=True)
                raise
            with contextlib.suppress(OSError):
                target.zero(descriptor, 0, _HEAD, is_device=True)
                flush(descriptor, is_device=True)
            raise _half(path, error) from error
    if device is None:
        partial.replace(path)
    return done


def _half(path: Path, error: BaseException) -> ImageError:
    """What is to be said of a disk that was not written to its end."""
    reason = "it was interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
    return ImageError(
        f"{path} was not written to its end: {reason}. It has no partition table now, and starts "
        "nothing",
        hint="write the image to it again",
    )


def _pieces(places: Places | Medium, image: int, esp: int) -> Iterator[Piece]:
    """The whole disk from front to back, but for what first boot makes anyway."""
    if isinstance(places, Medium):
        yield from _spans(image, 0, places.size, 0)
        return
    begin, end = places.esp
    yield from _spans(image, 0, begin, 0)
    yield from _spans(esp, 0, end - begin, begin)
    data_begin, data_end = places.data
    yield from _spans(image, end, data_begin, 0)
    # The first boot makes this file system: what tells old ones is removed, and no more.
    for start in (data_begin, max(data_end - _HEAD, data_begin + _HEAD)):
        if start < data_end:
            yield Piece(start, min(start + _HEAD, data_end))
    yield from _spans(image, data_end, places.size, 0)


def _spans(source: int, begin: int, end: int, shift: int) -> Iterator[Piece]:
    """Data and holes of a part of a file; it lies ``shift`` further on the disk."""
    position = begin
    for start, stop in sparse.extents(source, end, begin):
        start = max(start, position)
        if start > position:
            yield Piece(position + shift, start + shift)
        yield Piece(start + shift, stop + shift, source, start)
        position = stop
    if position < end:
        yield Piece(position + shift, end + shift)


class _Writer:
    """Writes pieces and reads them back."""

    def __init__(
        self,
        descriptor: int,
        pieces: list[Piece],
        device: target.Device | None,
        progress: Progress,
    ) -> None:
        self._descriptor = descriptor
        self._device = device
        self._progress = progress
        cut = [part for piece in pieces for part in _cut(piece)]
        self._head = [piece for piece in cut if piece.end <= _HEAD]
        self._rest = [piece for piece in cut if piece.start >= _HEAD]
        self._total = sum(piece.length for piece in cut)
        self._done = 0

    def run(self, size: int) -> Flashed:
        """Write everything, the head last. Raises ImageError, OSError."""
        is_device = self._device is not None
        if self._device is None:
            os.ftruncate(self._descriptor, size)
        else:
            # Neither table, nor the copy of an older one at the disk's end.
            end = self._device.size // 512 * 512
            target.zero(self._descriptor, 0, _HEAD, is_device=True)
            target.zero(self._descriptor, end - _HEAD, _HEAD, is_device=True)
            flush(self._descriptor, is_device=True)
        expected = hashlib.sha256()
        self._write(self._rest, expected)
        flush(self._descriptor, is_device=is_device)
        self._done = 0
        self._verify(self._rest, expected.hexdigest())
        self._done -= sum(piece.length for piece in self._head)
        self._write(self._head, expected)
        flush(self._descriptor, is_device=is_device)
        found = hashlib.sha256()
        head = hashlib.sha256()
        for data in self._read(self._head):
            head.update(data)
        for piece in self._head:
            for data in _content(piece):
                found.update(data)
        if head.digest() != found.digest():
            raise ImageError("the first MiB does not read back as it was written")
        return Flashed(self._total, expected.hexdigest())

    def _write(self, pieces: list[Piece], digest: hashlib._Hash) -> None:
        unsynced = 0
        for piece in pieces:
            if piece.source is None:
                target.zero(
                    self._descriptor, piece.start, piece.length, is_device=self._device is not None
                )
            position = piece.start
            for data in _content(piece):
                digest.update(data)
                if piece.source is not None:
                    write_all(self._descriptor, data, position)
                    unsynced += len(data)
                position += len(data)
                if unsynced >= _SYNC and self._device is not None:
                    os.fdatasync(self._descriptor)
                    unsynced = 0
                self._advance("write", len(data))

    def _verify(self, pieces: list[Piece], expected: str) -> None:
        digest = hashlib.sha256()
        for data in self._read(pieces):
            digest.update(data)
            self._advance("verify", len(data))
        if digest.hexdigest() != expected:
            raise ImageError("it does not read back as it was written; the disk may be worn out")

    def _read(self, pieces: list[Piece]) -> Iterator[bytes]:
        for piece in pieces:
            position = piece.start
            while position < piece.end:
                data = os.pread(self._descriptor, min(_BLOCK, piece.end - position), position)
                if not data:
                    raise ImageError(f"it ends at byte {position}: is its size a lie?")
                yield data
                position += len(data)

    def _advance(self, what: str, count: int) -> None:
        self._done += count
        self._progress(what, min(self._done, self._total), self._total)


def _cut(piece: Piece) -> list[Piece]:
    """The piece, in two where it goes past the head."""
    if not piece.start < _HEAD < piece.end:
        return [piece]
    ahead = _HEAD - piece.start
    return [
        piece._replace(end=_HEAD),
        piece._replace(start=_HEAD, offset=piece.offset + ahead),
    ]


def _content(piece: Piece) -> Iterator[bytes]:
    """The bytes of a piece. Raises ImageError where its file became shorter."""
    left, offset = piece.length, piece.offset
    while left:
        count = min(_BLOCK, left)
        data = _ZERO[:count] if piece.source is None else os.pread(piece.source, count, offset)
        if not data:
            raise ImageError("the image became shorter while it was read")
        yield data
        left -= len(data)
        offset += len(data)
