"""What a wheel's modules import, and that a checkout's names are the same modules."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from kubesolo_os.relocation import PACKAGES, RelocationError, own_import, relocated

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("module", "line", "expected"),
    [
        (
            "harness.errors",
            "from harness.deadline import Deadline",
            "from .deadline import Deadline",
        ),
        ("harness.qemu.argv", "from harness.qemu.arch import Arch", "from .arch import Arch"),
        ("harness.qemu.argv", "from harness.errors import X", "from ..errors import X"),
        (
            "harness.qemu.argv",
            "from product.channel.framing import PORT_NAME",
            "from ...product.channel.framing import PORT_NAME",
        ),
        ("product.entry", "    from product.agent.cli.main import main", None),
        ("harness.qemu.machine", "from harness.qemu import argv", "from . import argv"),
        ("product.entry", "import product_of_others", "import product_of_others"),
        ("product.entry", "from products import x", "from products import x"),
        ("a.b", "name = f'product.agent.{x}'", "name = f'kubesolo_os.product.agent.{x}'"),
        ("a.b", 'by = "product.image.oci"', 'by = "product.image.oci"'),
        ("a.b", 'text = "harness: product. Of"', 'text = "harness: product. Of"'),
    ],
)
def test_imports_become_relative(module: str, line: str, expected: str | None) -> None:
    source = f"if True:\n{line}\n" if line.startswith(" ") else f"{line}\n"
    made = relocated(source, module.split("."), is_package=False)
    if expected is None:
        assert made == "if True:\n    from .agent.cli.main import main\n"
    else:
        assert made == f"{expected}\n"


def test_a_package_imports_from_its_own_level() -> None:
    made = relocated("from harness.errors import X\n", ["harness", "cli"], is_package=True)
    assert made == "from ..errors import X\n"


def test_an_import_that_binds_the_top_is_refused() -> None:
    with pytest.raises(RelocationError, match=r"product.release.deltas:1: import product"):
        relocated("import product.errors\n", ["product", "release", "deltas"], is_package=False)


def test_every_module_of_the_checkout_can_be_relocated() -> None:
    left = []
    for name in PACKAGES:
        for path in sorted((ROOT / name).rglob("*.py")):
            inside = path.relative_to(ROOT).with_suffix("").parts
            if "tests" in inside:
                continue
            package = inside[-1] == "__init__"
            made = relocated(
                path.read_text(), inside[:-1] if package else inside, is_package=package
            )
            left += [
                f"{path}:{node.lineno}"
                for node in ast.walk(ast.parse(made))
                if isinstance(node, ast.ImportFrom) and own_import(node)
            ]
    assert left == []


def test_in_a_checkout_both_names_are_one_module() -> None:
    code = (
        "import kubesolo_os.harness.profile as installed, harness.profile as own\n"
        "from kubesolo_os.harness.errors import HarnessError\n"
        "assert installed is own and installed.Profile is own.Profile\n"
        "assert own.__spec__.name == 'harness.profile', own.__spec__\n"
        "assert own.HarnessError is HarnessError\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
