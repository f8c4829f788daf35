"""The packages of the harness import one way: each only from those below it."""

from __future__ import annotations

import ast
from pathlib import Path

from product.tests.layers import misplaced_imports

# From the top down; packages of the same row may not import each other.
LAYERS = (
    ("pytest_plugin",),
    ("entry",),
    ("cli",),
    ("faults", "crash", "servers"),
    ("target",),
    ("lab",),
    ("qemu",),
    ("commands",),
    ("console",),
    ("report",),
    ("journal",),
    ("profile",),
    ("tools", "abilities"),
    ("deadline",),
    ("errors",),
    ("abilities",),
)


def test_imports_go_down() -> None:
    assert misplaced_imports(Path(__file__).parents[1], "harness", LAYERS) == []


def test_of_the_product_nothing_is_imported_but_the_channels_framing() -> None:
    found = []
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        if "tests" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names.append(node.module)
            found += [
                f"{path.name}:{getattr(node, 'lineno', 0)}: {name}"
                for name in names
                if name.partition(".")[0] in ("product", "scenarios", "conftest")
                and name != "product.channel.framing"
            ]
    assert found == []


def test_of_one_system_nothing_is_said() -> None:
    """What is one product's stands in its profile."""
    root = Path(__file__).parents[1]
    found = [
        f"{path.relative_to(root)}:{number}: {line.strip()}"
        for path in sorted(root.rglob("*.py"))
        if "tests" not in path.parts
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if "kubesolo" in line.lower() and "kubesolo-os-harness" not in line
    ]
    assert found == []
