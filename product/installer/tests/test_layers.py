"""The modules of the installer import one way."""

from __future__ import annotations

from pathlib import Path

from product.tests.layers import misplaced_imports

# From the top down; modules of the same row may not import each other.
LAYERS = (
    ("cli",),
    ("job", "menu", "rule"),
    ("machine",),
    ("configure", "disks", "write"),
    ("contents",),
    ("errors",),
)


def test_imports_go_down() -> None:
    assert misplaced_imports(Path(__file__).parents[1], "product.installer", LAYERS) == []
