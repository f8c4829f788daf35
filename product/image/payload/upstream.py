"""The ``upstream`` payload: a Kubernetes of today, containerd and CoreDNS, built from Go modules.

docs/kubernetes.md says what it is made of, docs/images.md has its options.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, NamedTuple, Self

from pydantic import Field

from product.image import progress
from product.image.cache import Cache, digest_of, file_sha256, require_unchanged, tree_digest
from product.image.errors import ImageError, LockError, RecipeError
from product.image.golang.contents import (
    LicenceTexts,
    LinkedModule,
    licence_texts,
    modules_of,
)
from product.image.golang.modules import Change, GoModule
from product.image.golang.toolchain import Toolchain
from product.image.images import find_product
from product.image.kernel import KernelNeeds
from product.image.locks import Package
from product.image.oci import build_archives, images_digest, images_drift, images_packages
from product.image.payload import Options, Payload, read_options
from product.image.payload.kubesolo_elf import check_program, says
from product.image.recipe import Arch, Recipe
from product.image.tools import HostTools
from product.image.tree import Tree
from product.node.settings import OF_IMAGES, OF_UPSTREAM

IMAGES_FOLDER = "/usr/lib/kubesolo/images"
PROGRAM = "kubenode"
# Of the node's program alone, in its usage (images/go/node/main.go).
MARK = b"usage: kubenode all PLAN"
# Taken when the code is loaded, as the builder's digest is.
_CODE_DIGEST = tree_digest(find_product() / "image" / "payload")
_DATA = "/var/lib/kubesolo/kubernetes"
_KUBERNETES = "k8s.io/kubernetes"
_VERSION = re.compile(rf"^\s*(?:require )?{re.escape(_KUBERNETES)} v(\d+\.\d+\.\d+)$", re.M)
# The packages whose variables say the version.
_VERSIONED = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
# Users and names are looked up without C; gRPC's traces are for a page that nobody serves.
NODE_TAGS = ("osusergo", "netgo", "grpcnotrace")
_CONTAINERD = "github.com/containerd/containerd/v2"
# What kubelet, kube-proxy, containerd and the CNI plugins cannot do without.
_KERNEL = KernelNeeds(
    modules=(
        "overlay", "bridge", "br_netfilter", "veth", "nf_tables", "nft_compat", "nft_chain_nat",
        "nf_conntrack", "nf_conntrack_netlink", "xt_comment", "xt_mark", "xt_MASQUERADE",
        "xt_conntrack", "xt_addrtype", "xt_statistic", "xt_nat", "xt_tcpudp", "xt_multiport",
        "xt_recent", "ipt_REJECT",
        # Of the network policies.
        "nfnetlink_queue", "nft_ct", "nft_queue",
    ),
    options=(
        "CGROUPS", "CPUSETS", "CGROUP_SCHED", "FAIR_GROUP_SCHED", "CFS_BANDWIDTH", "MEMCG",
        "CGROUP_PIDS", "CGROUP_DEVICE", "CGROUP_BPF", "BLK_CGROUP", "CGROUP_HUGETLB", "NAMESPACES",
        "UTS_NS", "IPC_NS", "PID_NS", "NET_NS", "SECCOMP_FILTER", "KEYS", "POSIX_MQUEUE",
        "INOTIFY_USER",
    ),
)  # fmt: skip


class Program(NamedTuple):
    """One program: its name, its module's folder, the package that is its main, build tags."""

    name: str
    module: str
    package: str
    tags: tuple[str, ...] = ()


# The API server makes a certificate at each start that only this process ever sees. Two RSA keys
# for it were a seventh of an emulated start; all certificates of the node have keys of this kind.
_EPHEMERAL_KEYS = Change(
    "k8s.io/client-go/util/cert/cert.go",
    (
        ('\t"crypto/rsa"\n', '\t"crypto/ecdsa"\n\t"crypto/elliptic"\n', 1),
        (
            "rsa.GenerateKey(cryptorand.Reader, 2048)",
            "ecdsa.GenerateKey(elliptic.P256(), cryptorand.Reader)",
            2,
        ),
        (
            """\tkeyBuffer := bytes.Buffer{}
\tif err := pem.Encode(&keyBuffer, &pem.Block{Type: keyutil.RSAPrivateKeyBlockType, Bytes: \
x509.MarshalPKCS1PrivateKey(priv)}); err != nil {
""",
            """\tkeyPEM, err := keyutil.MarshalPrivateKeyToPEM(priv)
\tkeyBuffer := bytes.NewBuffer(keyPEM)
\tif err != nil {
""",
            1,
        ),
    ),
)
_CHANGES = {PROGRAM: (_EPHEMERAL_KEYS,)}
KUBENODE = Program(PROGRAM, "node", ".", NODE_TAGS)
# For hosts that ask a node; on the node kubenode is called by this name.
KUBECTL = Program("kubectl", "node", f"{_KUBERNETES}/cmd/kubectl", NODE_TAGS)
BESIDE = (
    Program("containerd", "containerd", ".", ("no_systemd", "no_tracing")),
    Program(
        "containerd-shim-runc-v2", "containerd", f"{_CONTAINERD}/cmd/containerd-shim-runc-v2",
        ("no_systemd", "no_tracing"),
    ),
    Program("coredns", "coredns", "."),
)  # fmt: skip
# What containerd calls to give a pod its network.
CNI_FOLDER = "usr/lib/cni"
_CNI = "github.com/containernetworking/plugins/plugins"
CNI = tuple(
    Program(name, "cni", f"{_CNI}/{kind}/{name}")
    for kind, name in (
        ("main", "bridge"), ("ipam", "host-local"), ("main", "loopback"), ("meta", "portmap")
    )
)  # fmt: skip
# Those of container images, by the names of these.
IN_IMAGES = {
    "pause": Program("pause", "pause", "."),
    "local-path-provisioner": Program(
        "local-path-provisioner", "local-path-provisioner",
        "github.com/rancher/local-path-provisioner",
    ),
    "metrics-server": Program(
        "metrics-server", "metrics-server", "sigs.k8s.io/metrics-server/cmd/metrics-server"
    ),
    "network-policies": Program(
        "network-policies", "network-policies", "sigs.k8s.io/kube-network-policies/cmd"
    ),
}  # fmt: skip


class UpstreamOptions(Options):
    """``[payload]`` of this kind; docs/images.md explains each."""

    # A minor version that images/go/node has a list of modules for.
    kubernetes: Annotated[str, Field(pattern=r"^\d+\.\d+$")] | None = None
    # A kubenode that was built before, relative to the recipe.
    binary: str | dict[Arch, str] | None = None
    images: tuple[str, ...] = ()


class UpstreamPayload:
    """Kubernetes in one program, what runs beside it, and what the guest's services need."""

    def __init__(self, recipe: Recipe, options: UpstreamOptions) -> None:
        self._folder = recipe.folder
        self._options = options
        self._overlay = recipe.folder / "payload/upstream"
        self._modules = {
            name: GoModule(recipe.folder / "go" / name)
            for name in {program.module for program in (*BESIDE, *CNI, *IN_IMAGES.values())}
        }
        self._modules["node"] = self._node_module(recipe.folder / "go/node")

    @classmethod
    def of(cls, recipe: Recipe, table: Mapping[str, object]) -> Self:
        """Set up from ``[payload]``. Raises LockError, RecipeError that names the key."""
        options = read_options(UpstreamOptions, recipe, table)
        if "pause" not in options.images:
            raise RecipeError(
                "payload.images lacks pause, without which no pod starts",
                hint='add "pause" to payload.images',
            )
        return cls(recipe, options)

    def _node_module(self, folder: Path) -> GoModule:
        newest = GoModule(folder)
        wanted = self._options.kubernetes
        if wanted is None or kubernetes_version(newest).startswith(f"{wanted}."):
            return newest
        if not (folder / f"{wanted}.mod").is_file():
            had = [kubernetes_version(newest).rpartition(".")[0]]
            had += sorted(path.stem for path in folder.glob("[0-9]*.mod"))
            raise RecipeError(
                f"payload.kubernetes: there is no Kubernetes {wanted} in {folder}",
                hint=f"there is {', '.join(had)}",
            )
        return GoModule(folder, f"{wanted}.mod")

    @property
    def kernel(self) -> KernelNeeds:
        """Modules and options that pods need."""
        return _KERNEL

    @property
    def version(self) -> str:
        """Kubernetes' own, such as ``1.36.3``."""
        return kubernetes_version(self._modules["node"])

    def digest(self, arch: Arch) -> str:
        """Names programs, services and images. Raises ImageError where a given program is bad."""
        given = self._given(arch)
        return digest_of(
            file_sha256(given) if given else self._modules["node"].digest,
            sorted((name, module.digest) for name, module in self._modules.items()),
            images_digest(self._options.images, arch),
            tree_digest(self._overlay),
            self._description(given, arch),
            arch,
            _CODE_DIGEST,
        )

    def prepare(self, arch: Arch, cache: Cache, tools: HostTools) -> Path:
        """The tree; builds what is not built or given. Raises ImageError."""
        digest = self.digest(arch)

        def build(tree: Path) -> None:
            given = self._given(arch)
            programs = {
                f"usr/bin/{program.name}": self.program(program, arch, cache)
                for program in (KUBENODE, *BESIDE)
                if given is None or program is not KUBENODE
            }
            if given:
                programs[f"usr/bin/{PROGRAM}"] = given
            for program in CNI:
                programs[f"{CNI_FOLDER}/{program.name}"] = self.program(program, arch, cache)
            built = {
                name: self.program(IN_IMAGES[name], arch, cache)
                for name in self._options.images
                if name in IN_IMAGES
            }
            images = build_archives(self._options.images, arch, cache, programs=built)
            texts = self._licences(arch, cache)
            with progress.step(f"assemble the payload for {arch}"):
                self._assemble(programs, images, self._description(given, arch), tree)
                texts.write(Tree(tree))
            require_unchanged(digest, self.digest(arch))

        return cache.tree(f"payload-upstream-{arch}", digest, build)

    def program(self, program: Program, arch: Arch, cache: Cache) -> Path:
        """One built program, from the cache; minutes for Kubernetes where it is not there."""
        module = self._modules[program.module]
        variables = version_variables(self.version) if program.module == "node" else ()
        changes = _CHANGES.get(program.name, ())

        def build(tree: Path) -> None:
            module.build(
                cache, arch, program.package, tree / program.name, what=program.name,
                tags=program.tags, variables=variables, changes=changes,
            )  # fmt: skip

        key = digest_of(module.digest, program, variables, changes, arch)
        return cache.tree(f"{program.name}-{arch}", key, build) / program.name

    def modules(self, arch: Arch, cache: Cache) -> list[LinkedModule]:
        """What the programs are linked from, without one that was handed in."""
        built = [
            self.program(program, arch, cache)
            for program in self._programs
            if not (program is KUBENODE and self._given(arch))
        ]
        toolchain = Toolchain.prepare(cache, self._modules["node"].toolchain)
        return modules_of(built, toolchain, cache)

    def _licences(self, arch: Arch, cache: Cache) -> LicenceTexts:
        found = LicenceTexts({}, {})
        for program in self._programs:
            module = self._modules[program.module]
            found |= licence_texts(module, cache, arch, [program.package], program.tags)
        return found

    @property
    def _programs(self) -> tuple[Program, ...]:
        inside = (IN_IMAGES[name] for name in self._options.images if name in IN_IMAGES)
        return (KUBENODE, *BESIDE, *CNI, *inside)

    def packages(self, arch: Arch) -> tuple[Package, ...]:
        """Those of the container images."""
        return images_packages(self._options.images, arch)

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
        if not says(path, f"v{self.version}".encode()):
            raise ImageError(
                f"payload.binary: {path} is not Kubernetes {self.version}: it nowhere says so",
                hint="set payload.kubernetes to the minor version that it was built from",
            )
        return path

    def _description(self, given: Path | None, arch: Arch) -> dict[str, object]:
        """What payload.json says; decision 0005 explains the fields."""
        drift = sorted(images_drift(self._options.images, arch))
        lacking = {name for name in OF_IMAGES if name not in self._options.images}
        return {
            "schema": 1,
            "kind": "upstream",
            "version": "given" if given else self.version,
            "kubernetes": self.version,
            "services": ["containerd", "kubernetes", "cluster-dns"],
            "kubeconfig": f"{_DATA}/pki/admin.kubeconfig",
            "containerd": "/run/containerd/containerd.sock",
            "datastore": {"path": f"{_DATA}/etcd", "service": "kubernetes"},
            "images": IMAGES_FOLDER,
            "settings": [name for name in OF_UPSTREAM if name not in lacking],
            **({"drift": drift} if drift else {}),
        }

    def _assemble(
        self,
        programs: Mapping[str, Path],
        images: Mapping[str, Path],
        description: object,
        tree: Path,
    ) -> None:
        made = Tree(tree)
        for path, program in programs.items():
            made.copy(path, program, 0o755)
        made.link("usr/bin/ctr", "containerd")
        made.link("usr/bin/kubectl", PROGRAM)
        for name, archive in images.items():
            made.copy(f"{IMAGES_FOLDER}/{name}.tar", archive)
            # What runs the image, where it is one of the cluster's services.
            for manifest in sorted((self._folder / "go" / name / "manifests").glob("*.yaml")):
                made.copy(f"usr/lib/kubesolo/manifests/{manifest.name}", manifest)
        made.lay(self._overlay)
        text = json.dumps(description, indent=2) + "\n"
        made.write("usr/lib/kubesolo/payload.json", text.encode())


def version_variables(version: str) -> tuple[str, ...]:
    """The linker's NAME=VALUE that have a program say which Kubernetes it is of."""
    major, minor, _ = version.split(".")
    values = {
        "gitVersion": f"v{version}", "gitMajor": major, "gitMinor": minor,
        "gitTreeState": "archive", "gitCommit": "unknown",
        "buildDate": "1970-01-01T00:00:00Z",
    }  # fmt: skip
    return tuple(
        f"{package}.{name}={value}" for package in _VERSIONED for name, value in values.items()
    )


def kubernetes_version(module: GoModule) -> str:
    """The version of Kubernetes that the module is built from. Raises LockError."""
    found = _VERSION.search(module.modfile.read_text())
    if found is None:
        raise LockError(f"{module.modfile} names no {_KUBERNETES}")
    return found[1]


PAYLOAD: type[Payload] = UpstreamPayload
