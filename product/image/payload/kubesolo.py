"""The ``kubesolo`` payload: KubeSolo's own release archive, which users' images carry."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from product.image import progress
from product.image.cache import Cache, digest_of, file_sha256, require_unchanged, tree_digest
from product.image.errors import ImageError, RecipeError
from product.image.images import find_product
from product.image.kernel import KernelNeeds
from product.image.locks import Package
from product.image.oci import build_archives, images_digest, images_drift, images_packages
from product.image.payload import Options, Payload, read_options
from product.image.payload.kubesolo_config import STATE, KubesoloConfig, check, render
from product.image.payload.kubesolo_elf import check_program, kubernetes_version
from product.image.payload.kubesolo_release import (
    HOME,
    PROGRAM,
    Pin,
    ReleaseLock,
    Sha256,
    fetch,
    lock_release,
    unpack_program,
)
from product.image.recipe import Arch, Recipe
from product.image.tools import HostTools
from product.image.tree import Tree
from product.node.settings import OF_KUBESOLO

LOCK_NAME = "kubesolo-release.json"
IMAGES_FOLDER = "/usr/lib/kubesolo/images"
# Taken when the code is loaded, as the builder's digest is.
_CODE_DIGEST = tree_digest(find_product() / "image" / "payload")
# What its documents ask for, and what its kube-proxy, CNI plugins and kubelet cannot do without.
_KERNEL = KernelNeeds(
    modules=(
        "overlay", "bridge", "br_netfilter", "veth", "nf_conntrack", "nf_tables", "nft_compat",
        "nft_chain_nat", "nft_ct", "nft_nat", "nft_masq", "nft_numgen", "nft_redir", "nft_limit",
        "ip_tables", "iptable_filter", "iptable_nat", "iptable_mangle", "xt_comment", "xt_mark",
        "xt_conntrack", "xt_MASQUERADE", "xt_addrtype", "xt_multiport", "xt_statistic", "xt_nat",
        "xt_REDIRECT", "nf_conntrack_netlink",
    ),
    options=(
        "CGROUPS", "CPUSETS", "CGROUP_SCHED", "FAIR_GROUP_SCHED", "CFS_BANDWIDTH", "BLK_CGROUP",
        "MEMCG", "CGROUP_PIDS", "CGROUP_DEVICE", "CGROUP_FREEZER", "CGROUP_BPF", "NAMESPACES",
        "UTS_NS", "IPC_NS", "PID_NS", "NET_NS", "SECCOMP_FILTER", "KEYS", "POSIX_MQUEUE",
    ),
)  # fmt: skip


class KubesoloOptions(Options):
    """``[payload]`` of this kind; docs/kubernetes.md explains each."""

    release: str = Field(pattern=r"^v\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$")
    variant: str = Field(default="musl-offline", pattern=r"^(musl|offline|musl-offline)?$")
    mirror: Annotated[str, Field(pattern=r"^https?://\S+$")] | None = None
    archive: str | dict[Arch, str] | None = None
    sha256: Sha256 | dict[Arch, Sha256] | None = None
    kubernetes: Annotated[str, Field(pattern=r"^\d+\.\d+(\.\d+)?$")] | None = None
    # Its pause image KubeSolo brings itself.
    images: tuple[Literal["agent", "busybox", "nginx"], ...] = ("agent",)
    config: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Source:
    """Where the archive comes from: a file, or an entry of the lock; ``sha256`` names it."""

    sha256: str
    file: Path | None
    pin: Pin | None


class KubesoloPayload:
    """A release archive, its configuration file, and the service that runs it."""

    def __init__(self, recipe: Recipe, options: KubesoloOptions, config: KubesoloConfig) -> None:
        self._options = options
        self._config = config
        self._name = recipe.name
        self._folder = recipe.folder
        self._overlay = recipe.folder / "payload/kubesolo"
        self._lock = recipe.folder / "locks" / LOCK_NAME
        self._sources: dict[Arch, _Source] = {}

    @classmethod
    def of(cls, recipe: Recipe, table: Mapping[str, object]) -> Self:
        """Set up from ``[payload]``. Raises RecipeError that names the key."""
        options = read_options(KubesoloOptions, recipe, table)
        return cls(recipe, options, check(options.config, recipe.name))

    @property
    def kernel(self) -> KernelNeeds:
        """What KubeSolo's documents ask of a kernel."""
        return _KERNEL

    def digest(self, arch: Arch) -> str:
        """Names the archive, the configuration, the files of ours and the images."""
        return self._digest(arch, self._source(arch))

    def prepare(self, arch: Arch, cache: Cache, tools: HostTools) -> Path:
        """The tree, built from the verified archive. Raises ImageError."""
        source = self._source(arch)

        def build(tree: Path) -> None:
            archive = source.file
            if source.pin is not None:
                archive = fetch(source.pin, cache, self._options.mirror)
            assert archive is not None
            with progress.step(f"unpack KubeSolo for {arch}"):
                self._build(arch, cache, archive, tree)
            require_unchanged(source.sha256, file_sha256(archive))

        return cache.tree(f"payload-kubesolo-{arch}", self._digest(arch, source), build)

    def packages(self, arch: Arch) -> tuple[Package, ...]:
        """Those of the container images; KubeSolo is none."""
        return images_packages(self._options.images, arch)

    def relock(self, home: str = HOME) -> list[str]:
        """Renew the release's lock; what changed. Raises DownloadError; see ``lock_release``."""
        options = self._options
        with progress.step(f"lock {self._lock.name}"):
            old, new = lock_release(self._lock, options.release, options.variant, home)
        return [
            f"{arch} {pin.url.rsplit('/', 1)[-1]} {pin.sha256}"
            for arch, pin in new.archives.items()
            if old is None or old.archives.get(arch) != pin
        ] or ["up to date"]

    def _source(self, arch: Arch) -> _Source:
        if arch not in self._sources:
            self._sources[arch] = self._find_source(arch)
        return self._sources[arch]

    def _find_source(self, arch: Arch) -> _Source:
        wanted = _of_arch(self._options.sha256, arch)
        given = _of_arch(self._options.archive, arch)
        if given is None:
            release, variant = self._options.release, self._options.variant
            lock = ReleaseLock.load(self._lock)
            pin = lock.pin(arch, release, variant, self._lock, wanted)
            if wanted is not None and wanted != pin.sha256:
                raise RecipeError(
                    f"recipe {self._name}: payload.sha256 is {wanted}, "
                    f"{self._lock} has {pin.sha256} for {arch}"
                )
            assert pin.sha256 is not None
            return _Source(pin.sha256, None, pin)
        path = self._folder / Path(given).expanduser()
        if not path.is_file():
            raise ImageError(f"there is no archive {path}", hint="is payload.archive right?")
        digest = file_sha256(path)
        expected = wanted or self._pinned(path, arch)
        if expected is not None and digest != expected:
            raise ImageError(
                f"{path} is not the archive that was asked for: expected SHA-256 {expected}, "
                f"got {digest}",
                hint="fetch it anew, or correct --payload-sha256 (payload.sha256 in the recipe)",
            )
        if expected is None:
            raise ImageError(
                f"{path} is not verified: no digest of it is known for {arch}, its own SHA-256 is "
                f"{digest}; say by --payload-sha256 which one it should have",
                hint="compare it with the release's SHA256SUMS; if it is there, add "
                f"--payload-sha256 {digest}, or payload.sha256 to the recipe",
            )
        return _Source(digest, path, None)

    def _pinned(self, path: Path, arch: Arch) -> str | None:
        """The locked digest of a file that has a locked archive's name."""
        if not self._lock.exists():
            return None
        pin = ReleaseLock.load(self._lock).archives.get(arch)
        return pin.sha256 if pin is not None and pin.url.endswith(f"/{path.name}") else None

    def _digest(self, arch: Arch, source: _Source) -> str:
        options = self._options
        return digest_of(
            source.sha256,
            render(self._config).decode(),
            options.kubernetes,
            options.release,
            sorted(options.images),
            images_digest(sorted(options.images), arch),
            tree_digest(self._overlay),
            arch,
            _CODE_DIGEST,
        )

    def _build(self, arch: Arch, cache: Cache, archive: Path, tree: Path) -> None:
        made = Tree(tree)
        made.lay(self._overlay)
        program = made.free(f"usr/bin/{PROGRAM}")
        unpack_program(archive, program)
        check_program(program, arch, f"the program in {archive.name}")
        kubernetes = self._kubernetes(program, archive)
        made.write("usr/lib/kubesolo/kubesolo.yaml", render(self._config))
        for name, path in build_archives(self._options.images, arch, cache).items():
            made.copy(f"{IMAGES_FOLDER}/{name}.tar", path)
        text = json.dumps(self._description(archive, kubernetes, arch), indent=2) + "\n"
        made.write("usr/lib/kubesolo/payload.json", text.encode())

    def _kubernetes(self, program: Path, archive: Path) -> str:
        """The version of Kubernetes, by which a datastore is later judged."""
        found = kubernetes_version(program)
        said = self._options.kubernetes
        if found is None and said is None:
            raise ImageError(
                f"the program in {archive.name} does not say which Kubernetes it holds",
                hint='say it in the recipe: kubernetes = "1.35" under [payload]',
            )
        if found is not None and said is not None and _minor(found) != _minor(said):
            raise ImageError(
                f"the program in {archive.name} holds Kubernetes {found}, the recipe says {said}"
            )
        return found or said or ""

    def _description(self, archive: Path, kubernetes: str, arch: Arch) -> dict[str, object]:
        # A file that was handed in may be of another release than the recipe's.
        named = re.match(r"kubesolo-(v[^-]+(?:-(?:alpha|beta|rc)[^-]*)?)-linux-", archive.name)
        endpoint = self._config.runtime.endpoint.removeprefix("unix://")
        drift = images_drift(self._options.images, arch)
        return {
            "schema": 1,
            "kind": "kubesolo",
            "version": named[1] if named else self._options.release,
            "kubernetes": kubernetes,
            "services": ["kubesolo", "kubesolo-images"],
            "kubeconfig": f"{STATE}/pki/admin/admin.kubeconfig",
            "containerd": endpoint or f"{STATE}/containerd/containerd.sock",
            "datastore": {"path": f"{STATE}/kine/db", "service": "kubesolo"},
            "images": IMAGES_FOLDER,
            "settings": sorted(OF_KUBESOLO),
            **({"drift": drift} if drift else {}),
        }


PAYLOAD: type[Payload] = KubesoloPayload


def _of_arch(value: str | dict[Arch, str] | None, arch: Arch) -> str | None:
    return value.get(arch) if isinstance(value, dict) else value


def _minor(version: str) -> str:
    match = re.match(r"\d+\.\d+", version)
    assert match is not None
    return match[0]
