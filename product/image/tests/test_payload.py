"""Payloads: recipes that extend others, what a kernel lacks, a third kind made of one module."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from product.image import cli, kernel, payload
from product.image.build import Builder
from product.image.cache import Cache
from product.image.errors import RecipeError
from product.image.kernel import KernelNeeds
from product.image.locks import Lock
from product.image.payload import table
from product.image.recipe import Arch, Recipe
from product.image.tools import IMAGES, HostTools

BASE = """
name = "base"
suite = "trixie"
source_date = 7
[packages]
root = ["a", "b"]
exclude = ["x"]
[packages.x86_64]
kernel = ["k"]
[root]
prune = ["usr/share/doc/*"]
"""


def _write(folder: Path, **recipes: str) -> Path:
    for name, text in recipes.items():
        (folder / f"{name}.toml").write_text(text)
    return folder / "own.toml"


def test_a_recipe_joins_lists_merges_tables_and_replaces_the_rest(tmp_path: Path) -> None:
    own = """
    extends = "base.toml"
    name = "own"
    [packages]
    root = ["b", "c"]
    [root.only]
    c = ["usr/bin/c"]
    [payload]
    kind = "k"
    """
    recipe = Recipe.load(_write(tmp_path, base=BASE, own=own))
    assert (recipe.name, recipe.suite, recipe.source_date) == ("own", "trixie", 7)
    assert recipe.packages.root == ("a", "b", "c")
    assert recipe.packages.exclude == ("x",)
    assert recipe.packages.x86_64.kernel == ("k",)
    assert recipe.root.prune == ("usr/share/doc/*",)
    assert recipe.root.only == {"c": ("usr/bin/c",)}
    assert recipe.payload == {"kind": "k"}
    assert recipe.lock_path(Arch.X86_64) == tmp_path / "locks/own-x86_64.json"
    assert Recipe.load(tmp_path / "base.toml").payload is None


def test_a_chain_of_recipes_is_followed(tmp_path: Path) -> None:
    middle = 'extends = "base.toml"\nname = "middle"\n[packages]\nroot = ["m"]\n'
    own = 'extends = "middle.toml"\nname = "own"\n[packages]\nroot = ["o"]\n'
    recipe = Recipe.load(_write(tmp_path, base=BASE, middle=middle, own=own))
    assert recipe.packages.root == ("a", "b", "m", "o")


@pytest.mark.parametrize(
    ("base", "own", "words"),
    [
        (BASE, 'extends = "none.toml"', r"none.toml, which .*own.toml extends, does not exist"),
        ('extends = "own.toml"', 'extends = "base.toml"', "which extends it in turn"),
        (BASE, "extends = 1", "a recipe's file name was expected"),
        (BASE, 'extends = "."', "cannot be read: Is a directory"),
        ("=", 'extends = "base.toml"', "base.toml is not TOML"),
        (BASE, 'extends = "base.toml"\n[kernal]\n', "own.toml has an unknown key 'kernal'"),
        (BASE, 'extends = "base.toml"\npayload = 1', "payload: Input should be a valid dict"),
    ],
)
def test_a_recipe_that_extends_wrongly_is_one_error(
    tmp_path: Path, base: str, own: str, words: str
) -> None:
    with pytest.raises(RecipeError, match=words):
        Recipe.load(_write(tmp_path, base=base, own=own))


RECIPE = 'name = "own"\nbase = "b"\nhardware = "pc"\npayload = "none"\n'


def _parts(folder: Path, own: str = RECIPE) -> Path:
    for name, text in (
        ("base/b", 'suite = "trixie"\n[packages]\nroot = ["a"]\n'),
        ("hardware/pc", '[kernel]\nmodules = ["m"]\n[kernel.x86_64]\nmodules = ["x"]\n'),
        (
            "hardware/board",
            'components = ["main", "non-free-firmware"]\n[packages]\nroot = ["firmware"]\n',
        ),
        ("payload/none", ""),
        ("payload/k", '[payload]\nkind = "k"\n[packages]\nroot = ["c", "a"]\n'),
    ):
        path = folder / f"{name}.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return _write(folder, own=own)


def test_a_recipe_is_one_part_of_each_axis(tmp_path: Path) -> None:
    recipe = Recipe.load(_parts(tmp_path, RECIPE.replace('"none"', '"k"')))
    assert (recipe.name, recipe.hardware) == ("own", "pc")
    assert recipe.packages.root == ("a", "c")
    assert recipe.payload == {"kind": "k"}
    assert recipe.kernel.of(Arch.X86_64).modules == ("m", "x")
    assert recipe.kernel.of(Arch.AARCH64).modules == ("m",)
    assert recipe.naming("x") == tmp_path / "hardware/pc.toml"


def test_a_payload_may_stand_in_the_recipe(tmp_path: Path) -> None:
    own = 'extends = "other.toml"\nname = "own"\n[payload]\nkind = "k"\n'
    _write(tmp_path, other=RECIPE)
    recipe = Recipe.load(_parts(tmp_path, own))
    assert (recipe.hardware, recipe.payload) == ("pc", {"kind": "k"})


def test_other_hardware_is_another_recipe_with_a_lock_of_its_own(tmp_path: Path) -> None:
    path = _parts(tmp_path)
    own, other = Recipe.load(path), Recipe.load(path, hardware="board")
    assert Recipe.load(path, hardware="pc") == own
    assert other.lock_path(Arch.AARCH64) == tmp_path / "locks/own-board-aarch64.json"
    assert other.packages.root == ("a", "firmware")
    assert other.request(Arch.AARCH64) != own.request(Arch.AARCH64)
    alone = other.model_copy(update={"components": ("main",)})
    assert alone.request(Arch.AARCH64) != other.request(Arch.AARCH64), "components count"


@pytest.mark.parametrize(
    ("own", "hardware", "words", "hint"),
    [
        (RECIPE, "toaster", "hardware: there is no 'toaster'", "there are: board, pc"),
        (RECIPE.replace('"b"', '"../b"'), None, "base: there is no", "there are: b"),
        (RECIPE.replace('base = "b"\n', ""), None, "names no base", "there are: b"),
        (BASE, "board", "names no hardware that board could take the place of", None),
    ],
)
def test_a_part_that_is_not_there_is_one_error_that_lists_them(
    tmp_path: Path, own: str, hardware: str | None, words: str, hint: str | None
) -> None:
    with pytest.raises(RecipeError, match=words) as caught:
        Recipe.load(_parts(tmp_path, own), hardware=hardware)
    assert caught.value.hint == hint


def test_a_part_is_no_recipe(tmp_path: Path) -> None:
    path = _parts(tmp_path)
    (tmp_path / "hardware/pc.toml").write_text('name = "pc"\n')
    with pytest.raises(RecipeError, match=r"pc\.toml is part of a recipe and cannot have 'name'"):
        Recipe.load(path)


def test_only_what_changes_the_packages_changes_the_lock(tmp_path: Path) -> None:
    plain = Recipe.load(_write(tmp_path, own=BASE)).request(Arch.X86_64)
    extended = 'extends = "base.toml"\nname = "own"\n[payload]\nkind = "k"\n'
    assert Recipe.load(_write(tmp_path, base=BASE, own=extended)).request(Arch.X86_64) == plain
    more = extended.replace("[payload]", '[packages]\nroot = ["s"]\n[payload]')
    assert Recipe.load(_write(tmp_path, base=BASE, own=more)).request(Arch.X86_64) != plain


def test_the_payload_of_a_recipe_is_one_that_is_known(tmp_path: Path) -> None:
    def recipe(text: str) -> Recipe:
        return Recipe.load(_write(tmp_path, base=BASE, own=f'extends = "base.toml"\n{text}'))

    assert table.payload_of(recipe("")) is None
    with pytest.raises(RecipeError, match="has no payload that could use binary"):
        table.payload_of(recipe(""), {"binary": "x"})
    with pytest.raises(RecipeError, match=r"payload\.kind is 'k3s', known are .*upstream"):
        table.payload_of(recipe('[payload]\nkind = "k3s"'))
    with pytest.raises(RecipeError, match=r"payload\.kind is None"):
        table.payload_of(recipe("[payload]"))


def test_a_kind_is_a_module_that_has_a_payload() -> None:
    assert table.kinds() == ["kubesolo", "upstream"]


def test_a_third_module_is_a_third_kind(third_module: str) -> None:
    assert table.kinds() == ["dummy", "kubesolo", "upstream"]


@pytest.mark.parametrize(
    "kind",
    [
        "debian", "kubesolo_config", "kubesolo_elf", "kubesolo_release",
        "table", "__init__", "", ".", "..upstream", "upstream.", "payload.upstream", "tests", "os",
        "Upstream", "up-stream", "../payload/upstream", "upstream\n", "\x00", 1, ["upstream"],
        None,
    ],
)  # fmt: skip
def test_what_is_no_kind_is_one_error_that_lists_them(tmp_path: Path, kind: object) -> None:
    plain = Recipe.load(_write(tmp_path, own=BASE))
    recipe = plain.model_copy(update={"payload": {"kind": kind}})
    words = re.escape(f"payload.kind is {kind!r}, known are kubesolo, upstream")
    with pytest.raises(RecipeError, match=f"{words}$"):
        table.payload_of(recipe)


def test_the_contract_names_what_the_stop_kills_and_payloads_do_so() -> None:
    contract = (IMAGES.parent / "docs/decisions/0005-kubernetes-payload.md").read_text()
    stop = (IMAGES / "overlay/etc/runit/3").read_text()
    groups = set(re.findall(r"/sys/fs/cgroup/\w+", stop))
    assert groups == {"/sys/fs/cgroup/kubepods", "/sys/fs/cgroup/containerd"}
    for group in groups:
        assert f"`{group}`" in contract
    for folder, name in (("upstream", "containerd"), ("kubesolo", "kubesolo")):
        path = f"payload/{folder}/usr/lib/kubesolo/services/{name}/run"
        assert "echo $$ > /sys/fs/cgroup/containerd/cgroup.procs\n" in (IMAGES / path).read_text()


def test_the_contract_names_the_lines_that_others_wait_for() -> None:
    product = IMAGES.parent / "product"
    contract = (IMAGES.parent / "docs/decisions/0005-kubernetes-payload.md").read_text()
    for module, line in (
        ("node/upstream.py", "kubesolo: kubernetes ready"),
        ("agent/update/trial.py", "ready version="),
    ):
        assert line in (product / module).read_text()
        assert re.search(f"`[^`]*{line}[^`]*`", contract), line


@pytest.mark.parametrize("arch", list(Arch))
def test_a_kernel_that_lacks_something_is_refused_by_name(
    cache: Cache, host_tools: HostTools, arch: Arch
) -> None:
    recipe = Recipe.load(IMAGES / "appliance.toml")
    prepared = kernel.prepare(Lock.load(recipe.lock_path(arch)), arch, cache, host_tools)
    # Loadable, with a dash, built in; an option of each sort.
    enough = KernelNeeds(("veth", "nft-compat", "virtio_pci"), ("CGROUPS", "VETH"))
    kernel.check_needs(prepared, enough, "k")
    needs = KernelNeeds(("veth", "frobnicator"), ("CGROUPS", "FROB", "CMDLINE_BOOL", "KASAN"))
    lacking = r"lacks what k needs: frobnicator, CONFIG_FROB, CONFIG_CMDLINE_BOOL, CONFIG_KASAN"
    with pytest.raises(RecipeError, match=lacking) as caught:
        kernel.check_needs(prepared, needs, "k")
    assert caught.value.hint is not None
    assert f"packages.{arch}.kernel" in caught.value.hint


@pytest.fixture
def third_module(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A third module on the package's path, and nothing else changed; its full name."""
    name = f"{payload.__name__}.dummy"
    third = str(Path(__file__).with_name("third_kind"))
    monkeypatch.setattr(payload, "__path__", [*payload.__path__, third])
    yield name
    sys.modules.pop(name, None)
    vars(payload).pop("dummy", None)


@pytest.fixture
def dummy(tmp_path: Path, third_module: str) -> Path:
    """A recipe of a third kind: a file of its own, and nothing else changed."""
    images = tmp_path / "images"
    (images / "locks").mkdir(parents=True)
    for name in ("overlay", "boot", "base", "hardware", "payload", "appliance.toml"):
        (images / name).symlink_to(IMAGES / name)
    shutil.copy(IMAGES / "locks/appliance-x86_64.json", images / "locks/dummy-x86_64.json")
    recipe = images / "dummy.toml"
    recipe.write_text(
        'extends = "appliance.toml"\nname = "dummy"\n'
        '[payload]\nkind = "dummy"\ngreeting = "hello"\n'
    )
    return recipe


def test_a_third_payload_is_a_module_and_a_recipe(
    cache: Cache, host_tools: HostTools, dummy: Path, tmp_path: Path
) -> None:
    builder = Builder(Arch.X86_64, cache=cache, tools=host_tools, recipe=dummy)
    slot = builder.slot("0.1.0")
    assert slot.manifest.kubernetes == "1.99.0"
    squashfs = slot.folder / "root.squashfs"
    root = tmp_path / "root"
    host_tools.run("unsquashfs", "-no-xattrs", "-d", root, squashfs, "usr/lib", "usr/share")
    assert json.loads((root / "usr/lib/kubesolo/payload.json").read_text())["kind"] == "dummy"
    assert (root / "usr/share/zoneinfo/UTC").read_text() == "hello", "over the packages"
    applets = (IMAGES / "overlay/usr/lib/kubesolo/applets").read_text()
    assert (root / "usr/lib/kubesolo/applets").read_text() == applets, "under the overlay"
    assert list(root.glob("usr/lib/modules/*/kernel/drivers/net/veth.ko"))
    other = Builder(
        Arch.X86_64, cache=cache, tools=host_tools, recipe=dummy, payload={"greeting": "bye"}
    )
    assert other.slot("0.1.0").folder != builder.slot("0.1.0").folder


def test_a_description_of_the_payload_that_cannot_be_read_builds_no_image(
    cache: Cache, host_tools: HostTools, dummy: Path, tmp_path: Path
) -> None:
    path = tmp_path / "overlay/usr/lib/kubesolo/payload.json"
    path.parent.mkdir(parents=True)
    path.write_text("[]")
    builder = Builder(Arch.X86_64, cache=cache, tools=host_tools, recipe=dummy)
    with pytest.raises(RecipeError, match=f"{path} is no JSON object"):
        builder.slot("0.1.0", (tmp_path / "overlay",))


def test_a_payload_that_the_kernel_does_not_suffice_for_builds_no_image(
    cache: Cache, host_tools: HostTools, dummy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs = KernelNeeds(("frobnicator",))
    module = importlib.import_module(f"{payload.__name__}.dummy")
    monkeypatch.setattr(module.PAYLOAD, "kernel", property(lambda self: needs))
    builder = Builder(
        Arch.X86_64, cache=cache, tools=host_tools, recipe=dummy, payload={"greeting": "never"}
    )
    words = "lacks what the payload of dummy needs: frobnicator"
    with pytest.raises(RecipeError, match=words):
        builder.slot("0.1.0")


def test_a_kernel_that_no_image_can_do_with_builds_none(
    cache: Cache, host_tools: HostTools, dummy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("product.image.build._NEEDS", KernelNeeds(options=("FROB",)))
    builder = Builder(
        Arch.X86_64, cache=cache, tools=host_tools, recipe=dummy, payload={"greeting": "none"}
    )
    with pytest.raises(RecipeError, match="lacks what the image dummy needs: CONFIG_FROB"):
        builder.slot("0.1.0")


def test_keys_that_a_kind_does_not_know_are_refused(
    dummy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["image", "build", "--arch", "x86_64", "--recipe", str(dummy)]
    monkeypatch.setattr("sys.argv", [*command, "--payload-binary", "x"])
    assert cli.main() == 1
    assert "recipe dummy has an unknown key 'payload.binary'" in capsys.readouterr().err
    dummy.write_text(dummy.read_text().replace('"hello"', "5"))
    monkeypatch.setattr("sys.argv", command)
    assert cli.main() == 1
    assert "payload.greeting: Input should be a valid string" in capsys.readouterr().err
