"""Copies of trees of the cache that take no room."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def link_copy(source: Path, target: Path) -> None:
    """Files are links to those of ``source``, where the file system can; what is added is not."""
    ignore = shutil.ignore_patterns("*.ok")
    shutil.copytree(source, target, symlinks=True, copy_function=_link, ignore=ignore)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
