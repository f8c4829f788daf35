"""What an applier wants: files, and notes."""

from __future__ import annotations

from typing import NamedTuple


class PlannedFile(NamedTuple):
    """An absolute path of the node, its bytes and mode; all files belong to root.

    With ``append``, the content goes behind what the file holds.
    """

    path: str
    content: bytes
    mode: int = 0o644
    append: bool = False


class Part(NamedTuple):
    """What one applier plans."""

    files: tuple[PlannedFile, ...] = ()
    notes: tuple[str, ...] = ()


def text_file(path: str, text: str, mode: int = 0o644) -> PlannedFile:
    """A file of ``text`` that ends with a newline unless it is empty."""
    if text and not text.endswith("\n"):
        text += "\n"
    return PlannedFile(path, text.encode(), mode)
