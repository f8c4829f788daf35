"""How the packages of a checkout come below ``kubesolo_os`` in a wheel.

Imports of the project's own packages become relative ones, which hold under every name. Texts that
name a module, for ``python -m`` and ``import_module``, get the prefix.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from pathlib import Path

TOP = "kubesolo_os"
PACKAGES = ("product", "harness")
# Texts that look like a module and are none: the first is part of an image's content.
_KEPT = frozenset({"product.image.oci"})
_NAMED = re.compile(rf"""(?<=["'])(?:{"|".join(PACKAGES)})\.[a-z_.]+(?=["'{{:])""")


class RelocationError(Exception):
    """A module says its own packages' names in a way that a wheel cannot change."""


def relocated(source: str, module: Sequence[str], *, is_package: bool) -> str:
    """The source of ``module`` (its dotted name in the checkout, in parts) for a wheel.

    Raises RelocationError for ``import product`` and the like: it binds the name at the top.
    """
    package = (TOP, *(module if is_package else module[:-1]))
    lines = source.split("\n")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] in PACKAGES:
                    raise RelocationError(
                        f"{'.'.join(module)}:{node.lineno}: import {alias.name}: write "
                        "from ... import ..."
                    )
        elif isinstance(node, ast.ImportFrom) and (name := own_import(node)):
            number = node.lineno - 1
            head, rest = lines[number][: node.col_offset], lines[number][node.col_offset :]
            new = _relative(name.split("."), package)
            lines[number] = head + re.sub(rf"^from\s+{re.escape(name)}\b", f"from {new}", rest)
    return _NAMED.sub(_prefixed, "\n".join(lines))


def own_import(node: ast.ImportFrom) -> str:
    """The project's module that a statement imports from by its absolute name, or ""."""
    name = node.module or ""
    return name if not node.level and name.partition(".")[0] in PACKAGES else ""


def _relative(target: Sequence[str], package: Sequence[str]) -> str:
    """``..errors``, for instance: what stands behind ``from`` in a module of ``package``."""
    full = (TOP, *target)
    common = 0
    while common < min(len(full), len(package)) and full[common] == package[common]:
        common += 1
    return "." * (len(package) - common + 1) + ".".join(full[common:])


def _prefixed(match: re.Match[str]) -> str:
    return match[0] if match[0] in _KEPT else f"{TOP}.{match[0]}"


def relocate(folder: Path) -> None:
    """Change every module below ``folder``, which is the wheel's ``kubesolo_os``."""
    for name in PACKAGES:
        for path in sorted((folder / name).rglob("*.py")):
            inside = path.relative_to(folder).with_suffix("").parts
            is_package = inside[-1] == "__init__"
            module = inside[:-1] if is_package else inside
            path.write_text(relocated(path.read_text(), module, is_package=is_package))
