"""Which licences Debian's machine-readable ``copyright`` names, and what SPDX calls them."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

# Debian's short names that are not SPDX's, beside those of GNU's licences.
_OTHERS = {
    "Expat": "MIT",
    "MIT/X11": "MIT",
    "Apache-2": "Apache-2.0",
    "MPL-2": "MPL-2.0",
    "PSF-2": "PSF-2.0",
    "zlib": "Zlib",
}
_GNU = re.compile(r"(A?GPL|LGPL|GFDL)-(NIV-)?(\d)(\.\d)?(\+?)")
_WORDS = {"and": "AND", "or": "OR"}


class Declared(NamedTuple):
    """``names`` as Debian has them; ``expression`` is SPDX's, or "" where it knows one of them not.

    It is the conjunction of what the files of the whole source are under.
    """

    names: tuple[str, ...] = ()
    expression: str = ""


def declared(text: bytes, known: Iterable[str]) -> Declared:
    """What a ``copyright`` says; nothing where it is not machine-readable.

    ``known`` are SPDX's identifiers of licences.
    """
    # Its import takes as long as a small build.
    from debian.copyright import Copyright, NotMachineReadableError

    # It tells of each old address of the format.
    logging.getLogger("debian.copyright").setLevel(logging.ERROR)
    try:
        read = Copyright(text.decode(errors="replace").splitlines(True), strict=False)
        found: list[Any] = [paragraph.license for paragraph in read.all_files_paragraphs()]
    except (NotMachineReadableError, ValueError):
        return Declared()
    names = sorted({one.synopsis.strip() for one in found if one is not None and one.synopsis})
    spdx = {identifier.lower(): identifier for identifier in known}
    expressions = {_expression(name, spdx) for name in names}
    if not names or "" in expressions:
        return Declared(tuple(names))
    return Declared(tuple(names), " AND ".join(sorted(expressions)))


def _expression(name: str, spdx: dict[str, str]) -> str:
    """SPDX's expression for what one paragraph names; "" where there is none."""
    parts = []
    for word in re.split(r"\s+(and|or)\s+", name):
        part = _WORDS.get(word) or _identifier(word, spdx)
        if not part:
            return ""
        parts.append(part)
    joined = " ".join(parts)
    return f"({joined})" if "OR" in parts else joined


def _identifier(name: str, spdx: dict[str, str]) -> str:
    if gnu := _GNU.fullmatch(name):
        family, invariants, major, minor, later = gnu.groups()
        name = f"{family}-{major}{minor or '.0'}"
        name += "-no-invariants" if invariants else ""
        name += "-or-later" if later else "-only"
    return spdx.get(_OTHERS.get(name, name).lower(), "")
