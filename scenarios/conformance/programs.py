"""The programs of conformance tests, from ``images/go/conformance``, and what its Kubernetes says.

The tests run on the host; what their pods run is for the guest.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import yaml

from product.image.cache import Cache, digest_of
from product.image.errors import LockError
from product.image.golang.modules import GoCommand, GoModule
from product.image.golang.toolchain import Toolchain
from product.image.payload.upstream import NODE_TAGS, kubernetes_version, version_variables
from product.image.recipe import Arch
from product.image.tools import IMAGES

FOLDER = IMAGES / "go/conformance"
TESTS = "e2e"
# Packages by the names of their programs; each is named in go.mod.
PACKAGES = {
    TESTS: ".",
    "agnhost": "k8s.io/kubernetes/test/images/agnhost",
    "nonewprivs": "k8s.io/kubernetes/test/images/nonewprivs",
    "sample-apiserver": "k8s.io/sample-apiserver",
    "etcd": "go.etcd.io/etcd/server/v3",
}
_KUBERNETES = "k8s.io/kubernetes"
_LIST = "test/conformance/testdata/conformance.yaml"


class Listed(NamedTuple):
    """A conformance test as Kubernetes lists it; ``file`` is where its source lies."""

    name: str
    file: str


class Programs:
    """Builds them, each once. Every method raises ImageError."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self.module = GoModule(FOLDER)

    @property
    def version(self) -> str:
        """Of Kubernetes, such as ``1.36.3``."""
        return kubernetes_version(self.module)

    def build(self, name: str, arch: Arch) -> Path:
        """The program ``name`` of PACKAGES for ``arch``; minutes where it is not in the cache."""
        variables = version_variables(self.version)

        def make(tree: Path) -> None:
            # With the node's tags most of what it is made of is compiled already.
            self.module.build(
                self._cache, arch, PACKAGES[name], tree / name, what=name, tags=NODE_TAGS,
                variables=variables,
            )  # fmt: skip

        key = digest_of(self.module.digest, name, PACKAGES[name], NODE_TAGS, variables, arch)
        return self._cache.tree(f"conformance-{name}-{arch}", key, make) / name

    def sources(self) -> Path:
        """The folder of Kubernetes' sources."""
        self.module.download(self._cache)
        go = GoCommand(Toolchain.prepare(self._cache, self.module.toolchain), self._cache)
        return go.folder(_KUBERNETES, f"v{self.version}")

    def listed(self) -> list[Listed]:
        """All conformance tests of this Kubernetes, each once, in the order of its list."""
        path = self.sources() / _LIST
        try:
            rows: list[dict[str, Any]] = yaml.load(path.read_text(), yaml.CSafeLoader)
            found = {row["codename"]: Listed(row["codename"], row["file"]) for row in rows}
        except (OSError, yaml.YAMLError, TypeError, KeyError) as error:
            raise LockError(
                f"{path} is no list of conformance tests: {error}",
                hint="look where Kubernetes' sources have it now",
            ) from None
        return list(found.values())
