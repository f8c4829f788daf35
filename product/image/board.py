"""What a board's firmware finds on KSOLOEFI beside the boot loader for UEFI.

A recipe's ``[board]`` says it.

The files become part of the boot loader's folder (product.disk.loader), so that they follow the
system with it.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from product.disk.loader import BOARD
from product.image.errors import RecipeError
from product.image.recipe import Board


def write(board: Board, trees: Sequence[Path], target: Path) -> None:
    """Add the board's files to the boot loader's folder ``target``.

    ``trees`` are unpacked packages. Raises RecipeError for a glob that fits no file in them, or
    more than one.
    """
    for name, pattern in sorted(board.files.items()):
        found = [path for tree in trees for path in sorted(tree.glob(pattern)) if path.is_file()]
        if len(found) != 1:
            raise RecipeError(
                f"board.files: {pattern} for {name} fits {len(found)} files of the packages for "
                "kernel and boot, where one is wanted",
                hint="name the file's package in packages.ARCH.boot, and the file as it lies there",
            )
        shutil.copyfile(found[0], _place(target, name))
    for name, text in sorted(board.texts.items()):
        _place(target, name).write_text(text)


def _place(target: Path, name: str) -> Path:
    path = target / name if "/" in name else target / BOARD / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
