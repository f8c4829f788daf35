"""What a Go program is made of: the modules that are linked, and their licences."""

from __future__ import annotations

from pathlib import Path

import pytest

from product.image.cache import Cache
from product.image.errors import LockError, ToolError
from product.image.golang.contents import (
    DOC,
    LicenceTexts,
    LinkedModule,
    licence_texts,
    modules_of,
)
from product.image.golang.modules import GoModule
from product.image.golang.toolchain import Toolchain, ToolchainLock
from product.image.recipe import Arch
from product.image.tests.go_proxy import GREETING, LICENCE, GoProxy, make_module
from product.image.tools import host_arch
from product.image.tree import Tree

VERSION = ToolchainLock.load().version
_MAIN = """package main

import (
	"example.com/forked/inner"
	greeting "example.com/Greeting"
)

func main() { println(greeting.Text, inner.Text) }
"""


@pytest.fixture
def two(tmp_path: Path, proxy: GoProxy) -> GoModule:
    """A program of two modules: the second by a replacement, with licences in several folders."""
    proxy.add(
        "example.com/fork", "v2.0.0+incompatible",
        {
            "LICENSE": LICENCE, "NOTICE.txt": "by them\n", "inner/COPYING": "inner\n",
            "inner/inner.go": 'package inner\n\nvar Text = "inner"\n',
            "inner/license.go": "package inner\n", "tests/LICENSE": "of no package\n",
        },
        go="1.16",
    )  # fmt: skip
    proxy.add("example.com/unused", "v1.0.0", {"x.go": "package unused\n"})
    needs = ((GREETING, "v1.0.0"), ("example.com/unused", "v1.0.0"))
    folder = make_module(tmp_path / "two", proxy, *needs, main=_MAIN)
    with (folder / "go.mod").open("a") as file:
        file.write("\nrequire example.com/forked v1.0.0\n")
        file.write("\nreplace example.com/forked => example.com/fork v2.0.0+incompatible\n")
    with (folder / "go.sum").open("a") as file:
        file.write(proxy.sums["example.com/fork", "v2.0.0+incompatible"])
    return GoModule(folder)


def test_the_modules_that_are_linked_are_read_from_the_program(
    two: GoModule, shelf: Cache, toolchain: Toolchain, tmp_path: Path, proxy: GoProxy
) -> None:
    for arch in Arch:
        two.build(shelf, arch, ".", tmp_path / arch)
    found = modules_of([tmp_path / arch for arch in Arch], toolchain, shelf)
    sums = {key: text.split()[2] for key, text in proxy.sums.items()}
    replaced = ("example.com/fork", "v2.0.0+incompatible")
    greeting = (GREETING, "v1.0.0")
    assert found == [
        LinkedModule(*greeting, sums[greeting]),
        LinkedModule(*replaced, sums[replaced]),
        LinkedModule("stdlib", VERSION),
    ]
    assert found[0].purl == "pkg:golang/example.com/greeting@v1.0.0"
    assert found[1].purl == "pkg:golang/example.com/fork@v2.0.0%2Bincompatible"


def test_a_program_of_a_fetched_module_names_that_one(
    shelf: Cache, toolchain: Toolchain, tmp_path: Path, proxy: GoProxy
) -> None:
    proxy.add("example.com/tool", "v1.2.3", {"main.go": "package main\n\nfunc main() {}\n"})
    need = ("example.com/tool", "v1.2.3")
    folder = make_module(tmp_path / "tools", proxy, need, main="package tools\n")
    with (folder / "go.mod").open("a") as file:
        file.write("\ntool example.com/tool\n")
    GoModule(folder).build(shelf, host_arch(), "example.com/tool", tmp_path / "tool")
    found = modules_of([tmp_path / "tool"], toolchain, shelf)
    assert [one.path for one in found] == ["example.com/tool", "stdlib"]


def test_what_is_no_go_program_is_named(shelf: Cache, toolchain: Toolchain, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("text")
    with pytest.raises(ToolError, match="text does not say which Go modules"):
        modules_of([tmp_path / "text"], toolchain, shelf)


def test_the_texts_of_what_is_linked_are_kept_once(
    two: GoModule, shelf: Cache, tmp_path: Path, toolchain: Toolchain
) -> None:
    found = licence_texts(two, shelf, host_arch(), ["."])
    assert sorted(found.modules) == [
        (GREETING, "v1.0.0"), ("example.com/fork", "v2.0.0+incompatible"), ("stdlib", VERSION),
    ]  # fmt: skip
    assert sorted(found.texts.values()) == sorted(
        [LICENCE, b"by them\n", b"inner\n", toolchain.licence]
    )
    found.write(Tree(tmp_path / "image"))
    folder = tmp_path / "image" / DOC
    rows = [line.split() for line in (folder / "modules").read_text().splitlines()]
    assert [row[:2] for row in rows] == [list(key) for key in sorted(found.modules)]
    texts = {row[0]: {(folder / "texts" / name).read_bytes() for name in row[2:]} for row in rows}
    assert texts[GREETING] == {LICENCE}
    assert texts["example.com/fork"] == {LICENCE, b"by them\n", b"inner\n"}
    assert len(list((folder / "texts").iterdir())) == 4


def test_texts_of_several_programs_come_together() -> None:
    key, other = ("a", "v1"), ("b", "v1")
    one = LicenceTexts({"1": b"x"}, {key: ("1",)})
    two = LicenceTexts({"1": b"x", "2": b"y"}, {key: ("2", "1"), other: ("2",)})
    assert one | two == LicenceTexts({"1": b"x", "2": b"y"}, {key: ("1", "2"), other: ("2",)})


def test_a_module_without_a_text_is_an_error_until_it_is_given(
    tmp_path: Path, proxy: GoProxy, shelf: Cache
) -> None:
    proxy.add(GREETING, "v1.1.0", {"greeting.go": 'package greeting\n\nvar Text = "x"\n'})
    module = GoModule(make_module(tmp_path / "program", proxy, (GREETING, "v1.1.0")))
    with pytest.raises(LockError, match=f"{GREETING} v1.1.0 has no licence text") as caught:
        licence_texts(module, shelf, host_arch(), ["."])
    place = module.folder / "licences" / GREETING / "LICENSE"
    assert str(place) in (caught.value.hint or "")
    place.parent.mkdir(parents=True)
    place.write_bytes(LICENCE)
    found = licence_texts(module, shelf, host_arch(), ["."])
    assert LICENCE in found.texts.values()
