"""The debian payload: its options, its tree, its build.

On a machine whose cache is empty this builds Kubernetes, which takes some minutes.
"""

from __future__ import annotations

import io
import json
import stat
import tarfile
from pathlib import Path

import pytest

from product.image import rootfs
from product.image.build import Builder
from product.image.cache import Cache
from product.image.drift import settle
from product.image.errors import ImageError, LockError, RecipeError, ToolError, TreeError
from product.image.payload import kubernetes_build
from product.image.payload.debian import DebianPayload
from product.image.payload.gobuild import BuildLock, Go
from product.image.payload.kubernetes_build import KubernetesBuild
from product.image.recipe import Arch, Recipe
from product.image.tools import IMAGES, HostTools, host_arch

RECIPE = IMAGES / "debian.toml"


def _payload(**options: object) -> DebianPayload:
    return DebianPayload.of(Recipe.load(RECIPE), {"kind": "debian", **options})


@pytest.mark.parametrize("arch", list(Arch))
def test_the_tree_describes_itself(cache: Cache, host_tools: HostTools, arch: Arch) -> None:
    tree = _payload(images=["pause"]).prepare(arch, cache, host_tools)
    library = tree / "usr/lib/kubesolo"
    description = json.loads((library / "payload.json").read_text())
    assert description["schema"] == 1
    assert description["kubernetes"] == "1.20.2"
    assert description["version"].startswith("1.20.5+really1.20.2-")
    for service in description["services"]:
        run = library / "services" / service / "run"
        assert run.stat().st_mode & stat.S_IXUSR
    assert (tree / description["images"].lstrip("/") / "pause.tar").is_file()
    for program in ("kubenode", "kubectl"):
        machine = (tree / "usr/bin" / program).read_bytes()[18]
        assert machine == {Arch.X86_64: 62, Arch.AARCH64: 183}[arch]


@pytest.mark.parametrize("arch", list(Arch))
def test_no_path_of_this_machine_is_in_the_programs(
    cache: Cache, host_tools: HostTools, arch: Arch
) -> None:
    """The bytes do not depend on where, or by whom, they were built."""
    build = KubernetesBuild(IMAGES)
    for make in (build.program, build.kubectl, build.pause):
        program = make(arch, cache, host_tools)
        data = program.read_bytes()
        for path in (IMAGES, cache.root):
            assert f"{path}/".encode() not in data, f"{path} in {program.name}"


def test_a_given_program_is_checked_and_taken(
    cache: Cache, host_tools: HostTools, tmp_path: Path
) -> None:
    build = KubernetesBuild(IMAGES)
    program = build.program(Arch.AARCH64, cache, host_tools)
    pause = build.pause(Arch.AARCH64, cache, host_tools)
    taken = _payload(binary=str(program))
    tree = taken.prepare(Arch.AARCH64, cache, host_tools)
    assert (tree / "usr/bin/kubenode").read_bytes() == program.read_bytes()
    assert (tree / "usr/bin/kubectl").readlink() == Path("kubenode")
    assert taken.digest(Arch.AARCH64) != _payload().digest(Arch.AARCH64)
    # Neither another program nor another version of this one is taken for what it is not.
    with pytest.raises(ImageError, match="pause is no kubenode") as caught:
        _payload(binary=str(pause)).digest(Arch.AARCH64)
    assert caught.value.hint
    with pytest.raises(ImageError, match=r"is not Kubernetes 1\.99\.0") as caught:
        _payload(binary=str(program), kubernetes="1.99.0").digest(Arch.AARCH64)
    assert "payload.kubernetes" in str(caught.value.hint)
    (tmp_path / "text").write_text("#!/bin/sh\n")
    (tmp_path / "cut").write_bytes(pause.read_bytes()[:100])
    for binary, words in [
        (str(pause), "a program for aarch64, the image is for x86_64"),
        (str(tmp_path / "text"), "is no ELF program"),
        (str(tmp_path / "none"), "there is no file"),
        (str(tmp_path), "there is no file"),
    ]:
        with pytest.raises(ImageError, match=words) as caught:
            _payload(binary=binary).digest(Arch.X86_64)
        assert caught.value.hint
    with pytest.raises(ImageError, match="cut off"):
        _payload(binary={"aarch64": str(tmp_path / "cut")}).digest(Arch.AARCH64)
    assert _payload(binary={"aarch64": str(pause)}).digest(Arch.X86_64)


def test_options_are_checked() -> None:
    with pytest.raises(RecipeError, match=r"unknown key 'payload\.colour'"):
        _payload(colour="red")
    with pytest.raises(RecipeError, match=r"payload\.kubernetes: String should match"):
        _payload(kubernetes="new")


def test_the_root_holds_the_programs_that_kubernetes_runs(
    cache: Cache, host_tools: HostTools
) -> None:
    recipe, arch = Recipe.load(RECIPE), host_arch()
    tree = rootfs.packages_tree(recipe, settle(recipe, arch, cache).lock, arch, cache, host_tools)
    for name in ("iptables", "iptables-restore", "iptables-save", "ip6tables"):
        assert (tree / "usr/sbin" / name).exists(), name
    assert sorted(path.name for path in (tree / "usr/lib/cni").iterdir()) == [
        "bridge", "host-local", "loopback", "portmap",
    ]  # fmt: skip


@pytest.mark.parametrize("arch", list(Arch))
def test_a_slot_with_kubernetes_stays_small(
    cache: Cache, host_tools: HostTools, arch: Arch
) -> None:
    """The budget of a slot that carries a payload is 160 MB."""
    slot = Builder(arch, cache=cache, tools=host_tools, recipe=RECIPE).slot("0.1.0")
    assert slot.manifest.total_size < 160e6


def _archive(path: Path, member: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(member, io.BytesIO(b"x" * member.size))
    return path


def test_a_source_archive_stays_in_its_folder(tmp_path: Path) -> None:
    escaping = tarfile.TarInfo("top/../../evil")
    escaping.size = 1
    device = tarfile.TarInfo("top/device")
    device.type = tarfile.CHRTYPE
    for member, words in ((escaping, "outside of its root"), (device, "it is a device")):
        archive = _archive(tmp_path / "bad.tar.gz", member)
        with pytest.raises(TreeError, match=words):
            kubernetes_build._unpack(archive, tmp_path / "tree")
    assert not (tmp_path / "evil").exists()


def test_a_build_that_fails_shows_the_compilers_words(
    cache: Cache, host_tools: HostTools, tmp_path: Path
) -> None:
    go = Go(BuildLock.load(IMAGES), cache, host_tools, tmp_path)
    source = go.gopath / "src/broken"
    source.mkdir(parents=True)
    (source / "main.go").write_text("package main\n\nfunc main() { undefined() }\n")
    with pytest.raises(
        ToolError, match=r"Go compiler failed with \d+: (.|\n)*undefined: undefined"
    ):
        go.build(host_arch(), "broken", tmp_path / "out", cwd=source, what="broken")


def test_the_build_uses_what_is_locked(tmp_path: Path) -> None:
    for name in ("locks", "kubernetes"):
        (tmp_path / name).symlink_to(IMAGES / name)
    text = (IMAGES / "kubernetes-build.toml").read_text()
    (tmp_path / "kubernetes-build.toml").write_text(text.replace('"patch"', '"quilt"'))
    with pytest.raises(LockError, match="other package lists"):
        KubernetesBuild(tmp_path)


def test_the_go_sources_are_formatted(cache: Cache, host_tools: HostTools, tmp_path: Path) -> None:
    go = Go(BuildLock.load(IMAGES), cache, host_tools, tmp_path)
    gofmt = go.root / "usr/lib/go-1.19/bin/gofmt"
    (tmp_path / "wrong.go").write_text("package main\nfunc  main() {}\n")
    assert host_tools.run(str(gofmt), "-l", tmp_path) == f"{tmp_path}/wrong.go\n".encode()
    assert host_tools.run(str(gofmt), "-l", IMAGES / "kubernetes") == b""
