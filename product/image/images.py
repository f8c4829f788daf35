"""Where recipes, locks and overlays lie: in the checkout, or unpacked from what was installed."""

from __future__ import annotations

import tarfile
from pathlib import Path

from product.image.cache import Cache, default_root, file_sha256
from product.image.errors import CacheError
from product.image.tree import Tree, member_name

_PRODUCT = Path(__file__).resolve().parents[1]
_CHECKOUT = _PRODUCT.parent / "images"
# Written by setup.py: symbolic links, which overlays have, are lost in a wheel.
_ARCHIVE = _PRODUCT / "images.tar"


def find() -> tuple[Path, bool]:
    """The folder, and whether it is unpacked in the cache, where nobody should edit it."""
    if not _ARCHIVE.is_file():
        return _CHECKOUT, False
    key = file_sha256(_ARCHIVE)[:32]
    try:
        return Cache().tree("images", key, unpack), True
    except CacheError:
        # Named again, with its hint, by the first command that needs the cache.
        return default_root() / "trees" / f"images-{key}", True


def unpack(target: Path) -> None:
    """Unpack the installed archive; links may lead out of it, as an overlay's do."""
    tree = Tree(target, str(_ARCHIVE))
    with tarfile.open(_ARCHIVE) as archive:
        for member in archive:
            tree.unpack(archive, member, member_name(member.name, str(_ARCHIVE)))
