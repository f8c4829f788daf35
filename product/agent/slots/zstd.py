"""Zstandard by the system's own libzstd, which is also the one that the image was packed with.

Everything works on whole blocks in buffers of the caller: no call takes memory that grows with a
file. ctypes is imported by whoever applies a delta, and nobody else.
"""

from __future__ import annotations

import ctypes
import mmap
from typing import Any

LIBRARY = "libzstd.so.1"
# zstd.h: ZSTD_cParameter.
_COMPRESSION_LEVEL = 100
_WINDOW_LOG = 101
_CHECKSUM_FLAG = 201

_SIZE = ctypes.c_size_t
_POINTER = ctypes.c_void_p
_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "ZSTD_isError": (ctypes.c_uint, (_SIZE,)),
    "ZSTD_getErrorName": (ctypes.c_char_p, (_SIZE,)),
    "ZSTD_versionNumber": (ctypes.c_uint, ()),
    "ZSTD_compressBound": (_SIZE, (_SIZE,)),
    "ZSTD_createCCtx": (_POINTER, ()),
    "ZSTD_freeCCtx": (_SIZE, (_POINTER,)),
    "ZSTD_createDCtx": (_POINTER, ()),
    "ZSTD_freeDCtx": (_SIZE, (_POINTER,)),
    "ZSTD_compressCCtx": (_SIZE, (_POINTER, _POINTER, _SIZE, _POINTER, _SIZE, ctypes.c_int)),
    "ZSTD_decompressDCtx": (_SIZE, (_POINTER, _POINTER, _SIZE, _POINTER, _SIZE)),
    "ZSTD_CCtx_setParameter": (_SIZE, (_POINTER, ctypes.c_int, ctypes.c_int)),
    "ZSTD_CCtx_refPrefix": (_SIZE, (_POINTER, _POINTER, _SIZE)),
    "ZSTD_DCtx_refPrefix": (_SIZE, (_POINTER, _POINTER, _SIZE)),
    "ZSTD_compress2": (_SIZE, (_POINTER, _POINTER, _SIZE, _POINTER, _SIZE)),
}


class ZstdError(Exception):
    """The library is missing, or what it was given is not what it should be."""


class Buffer:
    """Memory of a fixed size that the library reads and writes, and Python sees as ``view``.

    Pages that nobody writes take none.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._memory = mmap.mmap(-1, max(size, 1))
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self.view = memoryview(self._memory)[:size]


class Zstd:
    """One pair of contexts; close it. Not for several threads."""

    def __init__(self, library: str | None = None) -> None:
        """Raises ZstdError where ``library``, the system's unless given, has not what is needed."""
        library = library or LIBRARY
        try:
            self._library = ctypes.CDLL(library)
            for name, (result, arguments) in _FUNCTIONS.items():
                function = getattr(self._library, name)
                function.restype, function.argtypes = result, list(arguments)
        except (OSError, AttributeError) as error:
            raise ZstdError(f"{library} cannot be used: {error}") from None
        self.version = int(self._library.ZSTD_versionNumber())
        self._compressor = self._library.ZSTD_createCCtx()
        self._decompressor = self._library.ZSTD_createDCtx()
        if not self._compressor or not self._decompressor:
            self.close()
            raise ZstdError("libzstd has no memory for its contexts")

    def __enter__(self) -> Zstd:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the library's memory back."""
        self._library.ZSTD_freeCCtx(self._compressor)
        self._library.ZSTD_freeDCtx(self._decompressor)
        self._compressor = self._decompressor = None

    def compress_block(
        self, source: Buffer, at: int, length: int, into: Buffer, capacity: int, level: int
    ) -> int:
        """Compress as mksquashfs does; bytes in ``into``, 0 where that takes ``capacity`` or more.

        ``capacity`` is the block size of the file system, which mksquashfs gives the library, too.
        """
        _within(source, at, length)
        _within(into, 0, capacity)
        count = int(
            self._library.ZSTD_compressCCtx(
                self._compressor, into.address, capacity, source.address + at, length, level
            )
        )
        # An error is the one that mksquashfs stores a block for as it is: it does not fit.
        return 0 if self._library.ZSTD_isError(count) or count >= length else count

    def decompress(
        self,
        source: Buffer,
        at: int,
        length: int,
        into: Buffer,
        begin: int,
        capacity: int,
        prefix: tuple[Buffer, int] | None = None,
    ) -> int:
        """Decompress one frame to ``begin`` of ``into``, at most ``capacity`` bytes: how many.

        ``prefix`` is what the frame refers to: a buffer, and how many bytes of it. Raises
        ZstdError.
        """
        _within(source, at, length)
        _within(into, begin, capacity)
        if prefix is not None:
            _within(prefix[0], 0, prefix[1])
            self._library.ZSTD_DCtx_refPrefix(self._decompressor, prefix[0].address, prefix[1])
        return self._checked(
            self._library.ZSTD_decompressDCtx(
                self._decompressor,
                into.address + begin,
                capacity,
                source.address + at,
                length,
            )
        )

    def compress_against(self, content: bytes, prefix: bytes, level: int, window: int) -> bytes:
        """One frame that refers to ``prefix``, as ``decompress`` takes it; the publisher's.

        ``window`` is the logarithm of how far it may refer back.
        """
        room = Buffer(int(self._library.ZSTD_compressBound(len(content))))
        source, reference = Buffer(len(content)), Buffer(len(prefix))
        source.view[:], reference.view[:] = content, prefix
        context = self._library.ZSTD_createCCtx()
        try:
            for parameter, value in (
                (_COMPRESSION_LEVEL, level),
                (_WINDOW_LOG, window),
                (_CHECKSUM_FLAG, 0),
            ):
                self._checked(self._library.ZSTD_CCtx_setParameter(context, parameter, value))
            if prefix:
                self._checked(
                    self._library.ZSTD_CCtx_refPrefix(context, reference.address, len(prefix))
                )
            count = self._checked(
                self._library.ZSTD_compress2(
                    context, room.address, room.size, source.address, len(content)
                )
            )
        finally:
            self._library.ZSTD_freeCCtx(context)
        return bytes(room.view[:count])

    def _checked(self, result: int) -> int:
        if self._library.ZSTD_isError(result):
            words = self._library.ZSTD_getErrorName(result)
            raise ZstdError(f"libzstd: {words.decode(errors='replace')}")
        return int(result)


def _within(buffer: Buffer, at: int, length: int) -> None:
    if not 0 <= at <= at + length <= buffer.size:
        raise ZstdError(f"{length} bytes at {at} are not in a buffer of {buffer.size}")
