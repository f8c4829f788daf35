"""The packages of the harness import one way: each only from those below it."""

from __future__ import annotations

from pathlib import Path

from product.tests.layers import misplaced_imports

# From the top down; packages of the same row may not import each other.
LAYERS = (
    ("pytest_plugin",),
    ("cli",),
    ("faults", "crash", "servers"),
    ("target",),
    ("firmware",),
    ("qemu",),
    ("commands",),
    ("console",),
    ("report",),
    ("journal",),
    ("deadline",),
    ("errors",),
)


def test_imports_go_down() -> None:
    assert misplaced_imports(Path(__file__).parents[1], "harness", LAYERS) == []
