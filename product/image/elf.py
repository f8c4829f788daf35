"""What a program of the image needs to start: its loader and its libraries, from its ELF file.

``ldd`` runs the program's own loader, which this host cannot do for another architecture. The
format: https://refspecs.linuxfoundation.org/elf/gabi4+/contents.html, 64 bits, little-endian.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

from product.image.errors import RecipeError
from product.image.recipe import Arch
from product.image.tree import Tree

_MAGIC = b"\x7fELF\x02\x01"
_HEADER = struct.Struct("<16xHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_DYNAMIC = struct.Struct("<qQ")
_LOAD, _DYNAMIC_SEGMENT, _INTERPRETER = 1, 2, 3
_NEEDED, _STRINGS = 1, 5


class Needs(NamedTuple):
    """``loader`` is an absolute path, "" for a library; ``libraries`` are names without one."""

    loader: str
    libraries: tuple[str, ...]


def needs(data: bytes, origin: str) -> Needs:
    """What the file of these bytes names; ``origin`` names it. Raises RecipeError."""
    if not data.startswith(_MAGIC):
        raise RecipeError(f"{origin} is no program of 64 bits")
    try:
        return _needs(data)
    except (struct.error, ValueError, OverflowError):
        raise RecipeError(f"{origin} is no whole program: its tables lead outside of it") from None


def _needs(data: bytes) -> Needs:
    fields = _HEADER.unpack_from(data)
    first, size, count = fields[4], fields[8], fields[9]
    segments = [_SEGMENT.unpack_from(data, first + size * number) for number in range(count)]
    loader, names, strings = "", [], 0
    for kind, _, offset, _, _, length, _, _ in segments:
        if kind == _INTERPRETER:
            loader = data[offset : offset + length].rstrip(b"\0").decode()
        if kind == _DYNAMIC_SEGMENT:
            for tag, value in _DYNAMIC.iter_unpack(data[offset : offset + length]):
                if tag == _NEEDED:
                    names.append(value)
                elif tag == _STRINGS:
                    strings = value
                elif tag == 0:
                    break
    for kind, _, offset, address, _, length, _, _ in segments:
        if kind == _LOAD and address <= strings < address + length:
            table = strings - address + offset
            found = [data[table + name : data.index(b"\0", table + name)] for name in names]
            return Needs(loader, tuple(name.decode() for name in found))
    if names:
        raise ValueError("no segment holds the names")
    return Needs(loader, ())


def closure(root: Path, program: str, arch: Arch) -> dict[str, bytes]:
    """Files by their place that ``program`` takes, itself aside: its loader, and its libraries.

    Places are without a leading slash; libraries lie in ``lib``, where each loader looks. ``root``
    is the unpacked tree. Raises RecipeError for what the tree does not hold.
    """
    tree = Tree(root)
    found: dict[str, bytes] = {}
    waiting = [program]
    while waiting:
        name = waiting.pop()
        path = tree.follow(name)
        if not path.is_file():
            raise RecipeError(
                f"the image's packages hold no {name}, which early boot needs for {program}",
                hint="name its package in packages.root, and lock again",
            )
        data = path.read_bytes()
        wanted = needs(data, name)
        if name != program:
            found.setdefault(f"lib/{name.rpartition('/')[2]}", data)
        if wanted.loader:
            found[wanted.loader.lstrip("/")] = tree.follow(wanted.loader).read_bytes()
        waiting += [
            f"usr/lib/{arch.multiarch}/{library}"
            for library in wanted.libraries
            if f"lib/{library}" not in found and library not in _names(found)
        ]
    return found


def _names(found: dict[str, bytes]) -> set[str]:
    """File names of what was found: a library may name the loader itself."""
    return {name.rpartition("/")[2] for name in found}
