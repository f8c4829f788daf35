"""The modules of first-boot configuration import one way, and nothing before it is used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from product.tests.layers import misplaced_imports

# From the top down; modules of the same row may not import each other.
LAYERS = (
    ("cli", "fetch", "to_seed"),
    ("boot",),
    ("sources", "record", "show", "annotate"),
    ("plan",),
    ("appliers",),
    ("load",),
    ("schema", "netplan", "boot_password"),
    ("settings", "updates", "security", "write_files", "netplan_checks"),
    ("netplan_schema",),
    ("hosts", "ssh_keys", "pem", "edge", "netplan_keys", "cloud_keys", "timezones"),
    ("checking",),
    ("document",),
    ("network", "planned"),
    ("errors",),
)


def test_imports_go_down() -> None:
    assert misplaced_imports(Path(__file__).parents[1], "product.cloudinit", LAYERS) == []


def test_the_package_alone_loads_neither_yaml_nor_pydantic() -> None:
    names = ("yaml", "pydantic", "json")
    code = f"import sys, product.cloudinit; print([m for m in {names} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_its_names_are_those_of_their_modules() -> None:
    import product.cloudinit as package
    from product.cloudinit import load, plan

    for name in package.__all__:
        home = load if name.startswith("load") else plan
        assert getattr(package, name) is getattr(home, name)
    assert not hasattr(package, "load_anything")
