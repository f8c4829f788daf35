"""The packages of the agent import one way: each only from those below it."""

from __future__ import annotations

from pathlib import Path

from product.tests.layers import misplaced_imports

# From the top down; modules of the same row may not import each other.
LAYERS = (
    ("cli",),
    ("services",),
    ("support",),
    ("metrics",),
    ("status",),
    ("figures",),
    ("maintenance",),
    ("update",),
    ("health",),
    ("datastore",),
    ("kubernetes",),
    ("node",),
    ("trust",),
    ("slots",),
    ("sources",),
    ("records",),
    ("bootloader",),
    ("net", "logs"),
    ("system",),
    ("config",),
    ("settings",),
    ("window",),
    ("errors",),
)


def test_imports_go_down() -> None:
    assert misplaced_imports(Path(__file__).parents[1], "product.agent", LAYERS) == []
