"""Kubernetes built from Debian's source package: one static program for a node, and ``pause``.

Debian's patches are applied, then ours (``images/kubernetes/*.patch``), and our main package
(``images/kubernetes/kubenode``) is put beside Kubernetes' own. It is built the way of Go before
modules: the tree at its place below GOPATH, with the libraries that it brings.
"""

from __future__ import annotations

import mmap
import re
import shutil
import tarfile
from pathlib import Path

from product.image import progress
from product.image.cache import Cache, digest_of, tree_digest
from product.image.errors import ImageError
from product.image.locks import Package
from product.image.packages import fetch
from product.image.payload.gobuild import BuildLock, Go
from product.image.recipe import Arch
from product.image.tools import HostTools, host_arch
from product.image.tree import Tree, member_name

PROGRAM = "kubenode"
KUBECTL = "kubectl"
PAUSE = "pause"
# Of the node's program alone, in its usage (images/kubernetes/kubenode/main.go).
MARK = b"usage: kubenode all PLAN"
# No cloud's code, no Docker; users and names are looked up without C.
_TAGS = ("providerless", "dockerless", "osusergo", "netgo")
_TREE = "k8s.io/kubernetes"
# The packages whose variables say the version.
_VERSIONED = ("component-base/version", "client-go/pkg/version")
# Documents the API; the source package lacks it because it can be made.
_OPENAPI = "pkg/generated/openapi"
_NO_OPENAPI = ("code-generator", "sample-apiserver")
# Raised when a build of the same sources would give something else.
_REVISION = 2
_PAUSE_REVISION = 2


def says(program: Path, words: bytes) -> bool:
    """Whether ``words`` are among a program's bytes: one for another architecture cannot be asked,
    but holds what its linker was told."""
    with program.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return data.find(words) >= 0


class KubernetesBuild:
    """The build whose recipe, patches and sources lie below ``folder`` (``images/``)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "kubernetes"
        self._lock = BuildLock.load(folder)

    @property
    def package_version(self) -> str:
        """Debian's version of the source package."""
        return self._lock.sources[0].version

    @property
    def packages(self) -> tuple[Package, ...]:
        """The sources, and the compiler, whose library becomes part of each program."""
        return (*self._lock.sources, *self._lock.linked)

    @property
    def drift(self) -> tuple[str, ...]:
        """Which packages of compiler and sources are not the locked ones."""
        return self._lock.drift

    @property
    def version(self) -> str:
        """Kubernetes' own version, such as ``1.20.2``."""
        found = re.search(r"(\d+\.\d+\.\d+)-[^-]*$", self.package_version)
        if found is None:
            raise ImageError(f"{self.package_version} is no version of Debian's Kubernetes")
        return found[1]

    @property
    def digest(self) -> str:
        """Names what the program is made from."""
        return digest_of(self._lock.digest, tree_digest(self._folder), _TAGS, _REVISION)

    @property
    def pause_digest(self) -> str:
        """Names what ``pause`` is made from."""
        return digest_of(self._lock.digest, tree_digest(self._folder / PAUSE), _PAUSE_REVISION)

    def program(self, arch: Arch, cache: Cache, tools: HostTools) -> Path:
        """The node's program for ``arch``; minutes where the cache does not hold it."""
        return self._programs(arch, cache, tools) / PROGRAM

    def kubectl(self, arch: Arch, cache: Cache, tools: HostTools) -> Path:
        """kubectl alone: as a part of the node's program it would start five times as slowly."""
        return self._programs(arch, cache, tools) / KUBECTL

    def _programs(self, arch: Arch, cache: Cache, tools: HostTools) -> Path:
        def build(tree: Path) -> None:
            title = f"build Kubernetes {self.version} for {arch}, which takes some minutes"
            with progress.step(title), cache.scratch("kubernetes") as work:
                self._build(arch, cache, tools, work, tree)

        return cache.tree(f"kubernetes-{arch}", self.digest, build)

    def pause(self, arch: Arch, cache: Cache, tools: HostTools) -> Path:
        """The static first process of a pod."""

        def build(tree: Path) -> None:
            with cache.scratch("pause") as work:
                go = Go(self._lock, cache, tools, work)
                # Below GOPATH, or this folder's path would be in the program.
                source = go.gopath / "src" / PAUSE
                shutil.copytree(self._folder / PAUSE, source)
                go.build(arch, PAUSE, tree / PAUSE, cwd=source, what=f"pause for {arch}")

        return cache.tree(f"pause-{arch}", self.pause_digest, build) / PAUSE

    def _build(self, arch: Arch, cache: Cache, tools: HostTools, work: Path, target: Path) -> None:
        """Both programs into the directory ``target``."""
        go = Go(self._lock, cache, tools, work)
        tree = go.gopath / "src" / _TREE
        files = fetch(self._lock.sources, cache)
        with progress.step("unpack and patch the sources"):
            _unpack(_only(self._lock.sources, files, ".orig.tar."), tree)
            _unpack(_only(self._lock.sources, files, ".debian.tar."), work / "debian")
            series = (work / "debian/patches/series").read_text().split()
            patches = [work / "debian/patches" / name for name in series]
            for patch in [*patches, *sorted(self._folder.glob("*.patch"))]:
                # No fuzz: a patch that does not fit exactly may land in the wrong place.
                tools.run(
                    str(go.root / "usr/bin/patch"), "-p1", "-s", "--fuzz=0",
                    "--no-backup-if-mismatch", stdin=patch.read_bytes(), cwd=tree,
                )  # fmt: skip
            shutil.copytree(self._folder / PROGRAM, Tree(tree).folder("cmd") / PROGRAM)
        _generate_openapi(go, work, tree)
        vendored = f"{_TREE}/vendor/k8s.io"
        major, minor, _ = self.version.split(".")
        values = {
            "gitVersion": f"v{self.version}", "gitMajor": major, "gitMinor": minor,
            "gitTreeState": "archive", "gitCommit": "unknown",
            "buildDate": "1970-01-01T00:00:00Z",
        }  # fmt: skip
        variables = [
            f"{vendored}/{package}.{name}={value}"
            for package in _VERSIONED
            for name, value in values.items()
        ]
        for name in (PROGRAM, KUBECTL):
            go.build(
                arch, f"./cmd/{name}", target / name, cwd=tree, what=f"{name} for {arch}",
                tags=_TAGS, variables=variables,
            )  # fmt: skip


def _generate_openapi(go: Go, work: Path, tree: Path) -> None:
    generator = work / "openapi-gen"
    go.build(
        host_arch(), "./vendor/k8s.io/kube-openapi/cmd/openapi-gen", generator, cwd=tree,
        what="the generator of the API's description",
    )  # fmt: skip
    with progress.step("describe the API"):
        go.execute(
            generator, "--logtostderr", "-i", ",".join(_described(tree)),
            "-p", f"{_TREE}/{_OPENAPI}", "-O", "zz_generated.openapi",
            "-h", "hack/boilerplate/boilerplate.generatego.txt", "-r", work / "violations",
            cwd=tree,
        )  # fmt: skip


def _only(sources: tuple[Package, ...], files: dict[str, Path], mark: str) -> Path:
    for package in sources:
        if mark in package.name:
            return files[f"{package.name}:{package.architecture}"]
    raise ImageError(f"the lock's source package has no file with {mark!r} in its name")


def _unpack(archive: Path, target: Path) -> None:
    """Unpack below the archive's one top directory. Raises TreeError."""
    tree = Tree(target, archive.name)
    with tarfile.open(archive) as tar:
        for member in tar:
            _, _, name = member_name(member.name, archive.name).partition("/")
            if name:
                if not member.isdir():
                    member.mode = 0o755 if member.mode & 0o100 else 0o644
                tree.unpack(tar, member, name)


def _described(tree: Path) -> list[str]:
    """The packages that ask to be described, by import path."""
    found = set()
    staging = tree / "staging/src/k8s.io"
    for root in (staging, tree / "pkg", tree / "cmd"):
        for file in root.rglob("*.go"):
            below = file.relative_to(tree)
            if root == staging and file.relative_to(staging).parts[0] in _NO_OPENAPI:
                continue
            if (
                not file.name.startswith("zz_generated")
                and b"+k8s:openapi-gen=" in file.read_bytes()
            ):
                package = below.parent.as_posix().removeprefix("staging/src/")
                prefix = "vendor/" if root == staging else ""
                found.add(f"{_TREE}/{prefix}{package}")
    return sorted(found)
