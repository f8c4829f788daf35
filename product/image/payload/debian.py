"""The ``debian`` payload: Kubernetes from Debian's source package, containerd from its packages.

It is for the project's own proof, where nothing newer can be had: see docs/images.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field

from product.image import progress
from product.image.cache import Cache, digest_of, file_sha256, require_unchanged, tree_digest
from product.image.errors import ImageError
from product.image.kernel import KernelNeeds
from product.image.locks import Package
from product.image.oci import build_archives, images_digest, images_drift, images_packages
from product.image.payload import Options, Payload, read_options
from product.image.payload.kubernetes_build import KUBECTL, MARK, PROGRAM, KubernetesBuild, says
from product.image.payload.kubesolo_elf import check_program
from product.image.recipe import Arch, Recipe
from product.image.tools import HostTools
from product.image.tree import Tree
from product.node.settings import OF_DEBIAN

IMAGES_FOLDER = "/usr/lib/kubesolo/images"
# Taken when the code is loaded, as the builder's digest is.
_CODE_DIGEST = tree_digest(Path(__file__).resolve().parent)
_DATA = "/var/lib/kubesolo/kubernetes"
# What kubelet, kube-proxy, containerd and the CNI plugins cannot do without.
_KERNEL = KernelNeeds(
    modules=(
        "overlay", "bridge", "br_netfilter", "veth", "nf_tables", "nft_compat", "nft_chain_nat",
        "nf_conntrack", "nf_conntrack_netlink", "xt_comment", "xt_mark", "xt_MASQUERADE",
        "xt_conntrack", "xt_addrtype", "xt_statistic", "xt_nat", "xt_tcpudp", "xt_multiport",
        "xt_recent", "ipt_REJECT",
    ),
    options=(
        "CGROUPS", "CPUSETS", "CGROUP_SCHED", "FAIR_GROUP_SCHED", "CFS_BANDWIDTH", "MEMCG",
        "CGROUP_PIDS", "CGROUP_DEVICE", "CGROUP_BPF", "BLK_CGROUP", "CGROUP_HUGETLB", "NAMESPACES",
        "UTS_NS", "IPC_NS", "PID_NS", "NET_NS", "SECCOMP_FILTER", "KEYS", "POSIX_MQUEUE",
        "INOTIFY_USER",
    ),
)  # fmt: skip


class DebianOptions(Options):
    """``[payload]`` of this kind; docs/images.md explains each."""

    # A program that was built before, relative to the recipe.
    binary: str | dict[Arch, str] | None = None
    kubernetes: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")] | None = None
    images: tuple[str, ...] = ()


class DebianPayload:
    """Kubernetes in one program, and what the guest's services of this payload need."""

    def __init__(self, recipe: Recipe, options: DebianOptions) -> None:
        self._folder = recipe.folder
        self._options = options
        self._overlay = recipe.folder / "payload/debian"
        self._build = KubernetesBuild(recipe.folder)

    @classmethod
    def of(cls, recipe: Recipe, table: Mapping[str, object]) -> Self:
        """Set up from ``[payload]``. Raises RecipeError that names the key."""
        return cls(recipe, read_options(DebianOptions, recipe, table))

    @property
    def kernel(self) -> KernelNeeds:
        """Modules and options that pods need."""
        return _KERNEL

    def digest(self, arch: Arch) -> str:
        """Names program, services and images. Raises ImageError for a given program that is bad."""
        given = self._given(arch)
        return digest_of(
            file_sha256(given) if given else self._build.digest,
            self._build.pause_digest,
            images_digest(self._options.images, arch),
            tree_digest(self._overlay),
            self._description(given, arch),
            arch,
            _CODE_DIGEST,
        )

    def prepare(self, arch: Arch, cache: Cache, tools: HostTools) -> Path:
        """The tree; builds Kubernetes unless it is built or given. Raises ImageError."""

        digest = self.digest(arch)

        def build(tree: Path) -> None:
            given = self._given(arch)
            program = given or self._build.program(arch, cache, tools)
            kubectl = None if given else self._build.kubectl(arch, cache, tools)
            pause = self._build.pause(arch, cache, tools)
            images = build_archives(self._options.images, arch, cache, programs={"pause": pause})
            with progress.step(f"assemble the payload for {arch}"):
                self._assemble(program, kubectl, images, self._description(given, arch), tree)
            require_unchanged(digest, self.digest(arch))

        return cache.tree(f"payload-debian-{arch}", digest, build)

    def packages(self, arch: Arch) -> tuple[Package, ...]:
        """Those of the container images, and what Kubernetes is built from unless it was given."""
        build = () if self._given(arch) else self._build.packages
        return (*images_packages(self._options.images, arch), *build)

    def _given(self, arch: Arch) -> Path | None:
        """The program that was handed in, checked."""
        binary = self._options.binary
        name = binary.get(arch) if isinstance(binary, dict) else binary
        if name is None:
            return None
        path = self._folder / Path(name).expanduser()
        hint = f"name a {PROGRAM} for {arch}, or leave payload.binary out: it is then built"
        if not path.is_file():
            raise ImageError(f"payload.binary: there is no file {path}", hint=hint)
        try:
            check_program(path, arch, str(path))
        except ImageError as error:
            raise ImageError(f"payload.binary: {error.message}", hint=hint) from None
        if not says(path, MARK):
            raise ImageError(f"payload.binary: {path} is no {PROGRAM}", hint=hint)
        if not says(path, f"v{self._version}".encode()):
            raise ImageError(
                f"payload.binary: {path} is not Kubernetes {self._version}: it nowhere says so",
                hint="set payload.kubernetes to the version that it was built from",
            )
        return path

    @property
    def _version(self) -> str:
        """Kubernetes' own."""
        return self._options.kubernetes or self._build.version

    def _description(self, given: Path | None, arch: Arch) -> dict[str, object]:
        """What payload.json says; decision 0005 explains the fields."""
        drift = sorted({*self._build.drift, *images_drift(self._options.images, arch)})
        return {
            "schema": 1,
            "kind": "debian",
            "version": "given" if given else self._build.package_version,
            "kubernetes": self._version,
            "services": ["containerd", "kubernetes"],
            "kubeconfig": f"{_DATA}/pki/admin.kubeconfig",
            "containerd": "/run/containerd/containerd.sock",
            "datastore": {"path": f"{_DATA}/etcd", "service": "kubernetes"},
            "images": IMAGES_FOLDER,
            "settings": list(OF_DEBIAN),
            **({"drift": drift} if drift else {}),
        }

    def _assemble(
        self,
        program: Path,
        kubectl: Path | None,
        images: Mapping[str, Path],
        description: object,
        tree: Path,
    ) -> None:
        made = Tree(tree)
        made.copy(f"usr/bin/{PROGRAM}", program, 0o755)
        if kubectl is None:
            # Who hands in the program has kubectl in it.
            made.link(f"usr/bin/{KUBECTL}", PROGRAM)
        else:
            made.copy(f"usr/bin/{KUBECTL}", kubectl, 0o755)
        for name, archive in images.items():
            made.copy(f"{IMAGES_FOLDER}/{name}.tar", archive)
        made.lay(self._overlay)
        text = json.dumps(description, indent=2) + "\n"
        made.write("usr/lib/kubesolo/payload.json", text.encode())


PAYLOAD: type[Payload] = DebianPayload
