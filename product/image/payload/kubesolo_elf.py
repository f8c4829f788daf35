"""What a program's own headers say: for which machine it is, and what it needs to start."""

from __future__ import annotations

import mmap
import re
import struct
from pathlib import Path
from typing import BinaryIO

from product.image.errors import ImageError
from product.image.recipe import Arch

_MACHINES = {62: Arch.X86_64, 183: Arch.AARCH64}
# Loaders that the image has; a musl build is static and names none.
_LOADERS = {
    Arch.X86_64: "/lib64/ld-linux-x86-64.so.2",
    Arch.AARCH64: "/lib/ld-linux-aarch64.so.1",
}
_INTERPRETER = 3
# Go's build information lists the modules that a program was linked from.
_KUBERNETES = re.compile(rb"\tk8s\.io/kubernetes\tv(\d+\.\d+\.\d+)")


def check_program(path: Path, arch: Arch, what: str) -> None:
    """Raise ImageError unless ``path`` is a program that a node of ``arch`` can start."""
    with path.open("rb") as stream:
        head = stream.read(64)
        if len(head) < 64 or head[:4] != b"\x7fELF":
            raise ImageError(f"{what} is no ELF program")
        if head[4:6] != b"\x02\x01":
            raise ImageError(f"{what} is not a 64-bit little-endian program")
        kind, machine = struct.unpack_from("<HH", head, 16)
        if _MACHINES.get(machine) is not arch:
            found = _MACHINES.get(machine) or f"machine {machine}"
            raise ImageError(
                f"{what} is a program for {found}, the image is for {arch}",
                hint=f"take the archive for linux-{arch.debian}",
            )
        if kind not in (2, 3):
            raise ImageError(f"{what} is an ELF file but no program (type {kind})")
        (offset,) = struct.unpack_from("<Q", head, 32)
        size, count = struct.unpack_from("<HH", head, 54)
        whole = path.stat().st_size
        for index in range(count):
            row = _read(stream, offset + index * size, 56, whole)
            if len(row) < 56:
                raise ImageError(f"{what} is cut off in its program headers")
            if struct.unpack_from("<I", row)[0] != _INTERPRETER:
                continue
            start, length = (
                struct.unpack_from("<Q", row, 8)[0],
                struct.unpack_from("<Q", row, 32)[0],
            )
            name = _read(stream, start, min(length, 256), whole)
            loader = name.rstrip(b"\0").decode(errors="replace")
            if loader != _LOADERS[arch]:
                raise ImageError(
                    f"{what} starts with the loader {loader}, which the image lacks",
                    hint="take the build for glibc, or the static one",
                )


def _read(stream: BinaryIO, at: int, count: int, whole: int) -> bytes:
    """What lies there of a file of ``whole`` bytes: nothing behind its end, however far."""
    stream.seek(min(at, whole))
    return stream.read(count)


def kubernetes_version(path: Path) -> str | None:
    """The Kubernetes version that a Go program was linked from, or None where it does not say."""
    chunk = 1 << 22
    overlap = 128
    with path.open("rb") as stream:
        tail = b""
        while data := stream.read(chunk):
            match = _KUBERNETES.search(tail + data)
            if match:
                return match[1].decode()
            tail = data[-overlap:]
    return None


def says(program: Path, words: bytes) -> bool:
    """Whether ``words`` are among a program's bytes: one for another architecture cannot be asked,
    but holds what its linker was told."""
    with program.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return data.find(words) >= 0
