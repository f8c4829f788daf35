"""The table of mutations, and the architectures that each needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from product.image.recipe import Arch
from scenarios.mutations.table import MutationError, load

ENTRY = """
[[mutation]]
name = "one"
promise = "A promise"
change = "a change"
scenarios = ["a.py::test_a", "a.py::test_b"]
{more}
[[mutation.edit]]
file = "{file}"
old = "x"
new = "y"
"""


def table(folder: Path, more: str, file: str = "product/x.py") -> Path:
    path = folder / "mutations.toml"
    path.write_text(ENTRY.format(more=more, file=file))
    return path


def test_a_demand_may_be_one_for_all_or_one_for_each(tmp_path: Path) -> None:
    [one] = load(table(tmp_path, "noticed_by = 'a+'"))
    assert one.demand("a.py::test_b").pattern == "a+"
    each = "[mutation.noticed_by]\n'a.py::test_a' = 'a'\n'a.py::test_b' = 'b'"
    [one] = load(table(tmp_path, each))
    assert one.demand("a.py::test_b").pattern == "b"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("", "noticed_by"),
        ("noticed_by = '('", "no regular expression"),
        ("[mutation.noticed_by]\n'a.py::test_a' = 'a'", "names others than its scenarios"),
        ("noticed_by = 'a'\narchs = ['riscv']", "archs"),
    ],
)
def test_what_cannot_be_judged_is_refused(tmp_path: Path, more: str, said: str) -> None:
    with pytest.raises(MutationError, match=said):
        load(table(tmp_path, more))


@pytest.mark.parametrize(
    ("more", "file", "archs"),
    [
        ("", "product/x.py", (Arch.AARCH64,)),
        ("", "images/boot/grub.cfg", tuple(Arch)),
        ("archs = ['x86_64']", "images/boot/grub.cfg", (Arch.X86_64,)),
    ],
)
def test_what_is_native_is_broken_on_both(
    tmp_path: Path, more: str, file: str, archs: tuple[Arch, ...]
) -> None:
    [one] = load(table(tmp_path, f"noticed_by = 'a'\n{more}", file))
    assert one.required_archs == archs
    assert [case.arch for case in one.cases] == [arch for arch in archs for _ in range(2)]


def test_boot_loader_keys_and_watchdog_are_broken_on_both() -> None:
    both = {mutation.name for mutation in load() if set(mutation.required_archs) == set(Arch)}
    assert both >= {"grub-does-not-count", "menu-does-not-switch", "watchdog-not-armed"}
