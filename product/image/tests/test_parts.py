"""The builders' parts: cpio, GRUB's environment block, module closures, mirrors, unpacking."""

from __future__ import annotations

import fnmatch
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from product.image import cpio, grub, initramfs
from product.image.cache import Cache, tree_digest
from product.image.drift import settle
from product.image.errors import ImageError, RecipeError
from product.image.kernel import Kernel, ModuleIndex, check_modules, prepare
from product.image.mirror import find_mirrors
from product.image.packages import compile_globs, unpack
from product.image.recipe import Arch, Recipe
from product.image.tests.debian_archive import make_deb
from product.image.tools import IMAGES, HostTools


def test_cpio_reads_back() -> None:
    archive = cpio.archive(
        [
            cpio.directory("d"),
            cpio.file("d/program", b"#!/bin/sh\n", executable=True),
            cpio.file("d/odd", b"12345"),
            cpio.symlink("link", "d/odd"),
        ],
        1_000_000_000,
    )
    assert len(archive) % 512 == 0
    names = [name for name, _, _ in _read(archive)]
    assert names == ["d", "d/program", "d/odd", "link", "TRAILER!!!"]
    assert {name: data for name, _, data in _read(archive)}["d/odd"] == b"12345"
    assert [mode for _, mode, _ in _read(archive)][:4] == [0o40755, 0o100755, 0o100644, 0o120777]


def _read(archive: bytes) -> list[tuple[str, int, bytes]]:
    entries = []
    at = 0
    while True:
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        size, length = fields[6], fields[11]
        name = archive[at + 110 : at + 110 + length - 1].decode()
        at += 110 + length
        at += -at % 4
        entries.append((name, fields[1], archive[at : at + size]))
        at += size + (-size % 4)
        if name == "TRAILER!!!":
            return entries


def test_the_factory_environment_is_one_confirmed_sector() -> None:
    block = grub.environment_block(grub.FACTORY)
    assert len(block) == 1024
    assert block.startswith(b"# GRUB Environment Block\nactive_slot=A\n")
    assert b"\r" not in block
    assert block[512:] == b"#" * 512
    with pytest.raises(ImageError, match=r"name take .* a boot environment has 487"):
        grub.environment_block({"name": "x" * 500})


@pytest.mark.parametrize("arch", list(Arch))
def test_module_closures_load_in_order(cache: Cache, host_tools: HostTools, arch: Arch) -> None:
    recipe = Recipe.load(IMAGES / "appliance.toml")
    kernel = prepare(settle(recipe, arch, cache).lock, arch, cache, host_tools)
    index = ModuleIndex(kernel)
    files = index.closure(["virtio_net"])
    names = [Path(file).stem for file in files]
    assert names.index("failover") < names.index("net_failover") < names.index("virtio_net")
    assert index.closure(["virtio_pci"]) == [], "built in"
    assert all(index.content(file).startswith(b"\x7fELF") for file in files)
    with pytest.raises(RecipeError, match=f"for {arch} has no module 'frobnicator'"):
        index.closure(["frobnicator"])
    # ext4 says by an alias alone, and only softly, that it needs a digest.
    names = [Path(file).stem for file in index.closure(["ext4"])]
    assert names.index("crc32c_generic") < names.index("ext4")


def _index(folder: Path, **listings: str) -> ModuleIndex:
    kernel = Kernel(folder, "6.0", Arch.X86_64)
    kernel.modules.mkdir(parents=True, exist_ok=True)
    for name in ("dep", "builtin", "softdep", "alias"):
        (kernel.modules / f"modules.{name}").write_text(listings.get(name, ""))
    return ModuleIndex(kernel)


def test_soft_dependencies_load_before_or_after_where_there_are_any(tmp_path: Path) -> None:
    index = _index(
        tmp_path,
        dep="k/user.ko.xz: k/lib.ko.xz\nk/lib.ko.xz:\nk/one.ko:\nk/two-b.ko.xz: k/user.ko.xz\n",
        builtin="kernel/in.ko\n",
        softdep="# made by depmod\nsoftdep user pre: none in digest post: two-b absent\n",
        alias="# made by depmod\nalias digest one\nalias dmi:a b user\nalias pci:v* user\n",
    )
    assert index.closure(["user"]) == ["k/one.ko", "k/lib.ko", "k/user.ko", "k/two-b.ko"]
    assert index.aliases("user") == ["dmi:a b", "pci:v*"]
    assert index.aliases("in") == []


def test_early_boot_loads_what_the_devices_ask_for(tmp_path: Path) -> None:
    """The shell's functions agree with the patterns that they are made of."""
    patterns = {
        "one": ["pci:v00008086d00002918sv*sd*bc*sc*i*", "pci:v*d*sv*sd*bc01sc06i01*"],
        "two": ["pci:v00008086d0000291[89]sv*sd*bc*sc*i*", "pci:v00008086d*sv*sd*bc0Csc03i30*"],
    }
    aliases = [initramfs.Alias(one, name) for name, some in patterns.items() for one in some]
    script = initramfs.matcher("pci", aliases)
    assert "pci:v00008086*)" in script
    for device in (
        "pci:v00008086d00002918sv00001AF4sd00001100bc06sc01i00",
        "pci:v00008086d00002919sv00001AF4sd00001100bc06sc01i00",
        "pci:v00001AF4d00002918sv00001AF4sd00001100bc01sc06i01",
        "pci:v00008086d00001111sv00001AF4sd00001100bc0Csc03i30",
        "pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02",
    ):
        ended = subprocess.run(
            ["sh", "-c", f'load_once() {{ echo "$1"; }}\n{script}\nmatch_pci "$1"', "sh", device],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        wanted = [
            name
            for name, some in patterns.items()
            if any(fnmatch.fnmatchcase(device, pattern) for pattern in some)
        ]
        assert sorted(set(ended.stdout.split())) == wanted, device


@pytest.mark.parametrize("arch", list(Arch))
def test_a_module_that_no_kernel_has_is_named_with_its_file(
    cache: Cache, host_tools: HostTools, arch: Arch, tmp_path: Path
) -> None:
    for name in ("base", "payload", "locks"):
        (tmp_path / name).symlink_to(IMAGES / name)
    shutil.copy(IMAGES / "appliance.toml", tmp_path)
    (tmp_path / "hardware").mkdir()
    text = (IMAGES / "hardware/generic.toml").read_text()
    part = tmp_path / "hardware/generic.toml"
    part.write_text(text.replace('"e1000e"', '"e1000e", "frobnicator"'))
    recipe = Recipe.load(tmp_path / "appliance.toml")
    kernel = prepare(settle(recipe, arch, cache).lock, arch, cache, host_tools)
    words = f"{part} names the module 'frobnicator', and kernel {kernel.release} for {arch}"
    with pytest.raises(RecipeError, match=re.escape(words)):
        check_modules(kernel, recipe)
    check_modules(kernel, Recipe.load(IMAGES / "appliance.toml"))


@pytest.mark.parametrize(
    ("builtin", "reason"),
    [("kernel/drivers/block/brd.ko\n", "has brd built in"), ("", "has no module 'brd'")],
)
def test_a_kernel_without_a_disk_in_memory_is_refused(
    tmp_path: Path, host_tools: HostTools, builtin: str, reason: str
) -> None:
    kernel = _index(tmp_path, builtin=builtin).kernel
    recipe = Recipe.load(IMAGES / "appliance.toml")
    target = tmp_path / "initramfs.img"
    with pytest.raises(RecipeError, match=reason):
        initramfs.build(recipe, kernel, tmp_path, b"", host_tools, target)
    assert not target.exists()


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("sources.list", "deb [signed-by=/k.gpg] http://mirror.example.org/debian trixie main\n"),
        ("sources.list.d/a.list", "deb http://mirror.example.org/debian/ sid main\n"),
        (
            "sources.list.d/a.sources",
            "Types: deb\nURIs: file:/local\n http://mirror.example.org/debian\nSuites: trixie\n",
        ),
    ],
)
def test_the_mirror_is_the_hosts_own(
    tmp_path: Path, file: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("KUBESOLO_DEBIAN_MIRROR", "KUBESOLO_DEBIAN_SECURITY_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / file).write_text(text)
    mirrors = find_mirrors(tmp_path)
    assert mirrors.debian == "http://mirror.example.org/debian"
    assert mirrors.url("debian-security", "pool/x.deb") == (
        "http://mirror.example.org/debian-security/pool/x.deb"
    )
    monkeypatch.setenv("KUBESOLO_DEBIAN_MIRROR", "http://other.example.org/debian")
    assert find_mirrors(tmp_path).debian == "http://other.example.org/debian"


def test_unpack_prunes(tmp_path: Path) -> None:
    root = tmp_path / "root"
    good = tmp_path / "good.deb"
    files = {"./usr/bin/x": b"x", "./usr/share/doc/x": b"doc"}
    good.write_bytes(make_deb("Package: thing\nVersion: 1\n", files))
    assert unpack(good, root, compile_globs(["usr/share/doc/*"])).names == ["usr/bin/x"]
    assert (root / "usr/bin/x").read_bytes() == b"x"
    assert not (root / "usr/share").exists()


def test_a_digest_of_code_leaves_out_its_tests(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "code.py").write_text("1")
    before = tree_digest(tmp_path, without="tests")
    (tmp_path / "tests/test_code.py").write_text("2")
    assert tree_digest(tmp_path, without="tests") == before != tree_digest(tmp_path)
    (tmp_path / "code.py").write_text("3")
    assert tree_digest(tmp_path, without="tests") != before


def test_a_slots_command_line_is_a_block_as_well(host_tools: HostTools, tmp_path: Path) -> None:
    line = "console=tty0 console=ttyS0,115200 " + "x" * 600 + " a\\b"
    block = grub.environment_block({"kernel_arguments": line}, atomic=False)
    assert len(block) == 1024
    file = tmp_path / "kernel.env"
    file.write_bytes(block)
    found = host_tools.run("grub-editenv", file, "list").decode()
    assert found == f"kernel_arguments={line}\n"
    with pytest.raises(ImageError, match=r"kernel_arguments take .* a boot environment has 999"):
        grub.environment_block({"kernel_arguments": "x" * 1000}, atomic=False)
