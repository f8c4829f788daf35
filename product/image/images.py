"""Where recipes, locks, overlays and the product's code lie, as a checkout has them.

That is in the checkout, or unpacked in the cache from what was installed.
"""

from __future__ import annotations

import tarfile
from functools import cache
from pathlib import Path

from product.image.cache import Cache, default_root, file_sha256
from product.image.errors import CacheError
from product.image.tree import Tree, member_name

_PRODUCT = Path(__file__).resolve().parents[1]
_CHECKOUT = _PRODUCT.parent / "images"
# Written by setup.py: symbolic links, which overlays have, are lost in a wheel.
_ARCHIVE = _PRODUCT / "images.tar"
# Written by setup.py: what is installed has other names for its packages.
_CODE = _PRODUCT / "code.tar"


def find() -> tuple[Path, bool]:
    """The folder, and whether it is unpacked in the cache, where nobody should edit it."""
    if not _ARCHIVE.is_file():
        return _CHECKOUT, False
    return _unpacked("images", _ARCHIVE), True


@cache
def find_product() -> Path:
    """The folder ``product``: what images ship of it, and whose content is part of their names."""
    return _unpacked("product", _CODE) if _CODE.is_file() else _PRODUCT


def _unpacked(name: str, archive: Path) -> Path:
    key = file_sha256(archive)[:32]
    try:
        return Cache().tree(name, key, lambda target: unpack(target, archive))
    except CacheError:
        # Named again, with its hint, by the first command that needs the cache.
        return default_root() / "trees" / f"{name}-{key}"


def unpack(target: Path, source: Path = _ARCHIVE) -> None:
    """Unpack an installed archive; links may lead out of it, as an overlay's do."""
    tree = Tree(target, str(source))
    with tarfile.open(source) as archive:
        for member in archive:
            tree.unpack(archive, member, member_name(member.name, str(source)))
