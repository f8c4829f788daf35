"""The project's own code in an image, file by file, and the packages that it needs there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from product.image.rootfs import CODE, PRODUCT, SHIPPED

# Debian's packages by the top-level modules that the code imports; the rest is Python's library.
PACKAGES = {
    "cryptography": "python3-cryptography",
    "pydantic": "python3-pydantic",
    "tuf": "python3-tuf",
    "yaml": "python3-yaml",
}
INTERPRETER = "python3.13"


class OwnFile(NamedTuple):
    """A file's path in the image, without a leading slash, and its digests."""

    path: str
    sha1: str
    sha256: str


def sources() -> Iterator[Path]:
    """What of the project ships, in order; tests do not."""
    for name in sorted(SHIPPED):
        place = PRODUCT / name
        found = sorted(place.rglob("*.py")) if place.is_dir() else [place]
        yield from (path for path in found if "tests" not in path.relative_to(PRODUCT).parts)


def own_files() -> tuple[OwnFile, ...]:
    """Each source as it lies in the image."""
    found = []
    for path in sources():
        data = path.read_bytes()
        found.append(
            OwnFile(
                f"{CODE}/product/{path.relative_to(PRODUCT).as_posix()}",
                # SPDX 2.3 asks for it (8.4), as a name and not as a proof.
                hashlib.sha1(data, usedforsecurity=False).hexdigest(),
                hashlib.sha256(data).hexdigest(),
            )
        )
    return tuple(found)
