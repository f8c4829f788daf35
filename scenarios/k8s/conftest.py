"""Scenarios here run on the image with Kubernetes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.arch import Arch
from product.image.cache import Cache
from product.image.tools import HostTools
from product.release.keys import KeyDirectory
from scenarios import kubectl
from scenarios.kubectl import RECIPE
from scenarios.releases import Releases

if TYPE_CHECKING:
    from conftest import Images


@pytest.fixture(scope="session", autouse=True)
def kubectl_program() -> Path:
    """kubectl for this host, before a deadline runs."""
    return kubectl.program()


@pytest.fixture(scope="session")
def images(cache: Cache, host_tools: HostTools) -> Images:
    """The image with the payload that the project builds itself."""
    from conftest import Images

    return Images(cache, host_tools, recipe=RECIPE)


@pytest.fixture(scope="session")
def releases(
    arch: Arch,
    images: Images,
    tmp_path_factory: pytest.TempPathFactory,
    release_keys: KeyDirectory,
) -> Releases:
    """Signed releases of it, built when first asked for."""
    folder = tmp_path_factory.mktemp(f"k8s-releases-{arch}")
    return Releases(images.builder(arch.value), folder, release_keys)
