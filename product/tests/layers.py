"""Which imports of a package break the order of its parts."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path


def misplaced_imports(root: Path, package: str, layers: Sequence[Sequence[str]]) -> list[str]:
    """One line for each import that goes up or sideways, and for each part that has no layer.

    ``layers`` names the parts of ``package`` (a module or a folder of ``root``) from the top down.
    Tests are left out: they may use everything. Imports inside functions and for types count, too.
    """
    level = {part: number for number, row in enumerate(layers) for part in row}
    found = []
    for path in sorted(root.rglob("*.py")):
        inside = path.relative_to(root).with_suffix("").parts
        if "tests" in inside or inside in (("__init__",), ("__main__",)):
            continue
        part = inside[0]
        if part not in level:
            found.append(f"{'/'.join(inside)}: {part} has no layer")
            continue
        for line, name in _imported(path, package):
            if name != part and level.get(name, -1) <= level[part]:
                found.append(f"{'/'.join(inside)}.py:{line}: {part} imports {name}")
    return found


def _imported(path: Path, package: str) -> Iterator[tuple[int, str]]:
    """Line and part of everything of ``package`` that the module imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            line, names = node.lineno, [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            line, names = node.lineno, [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.startswith(f"{package}."):
                yield line, name.removeprefix(f"{package}.").split(".")[0]
