"""Scenarios here run on the image with Kubernetes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from product.image.cache import Cache
from product.image.tools import HostTools
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
def releases(images: Images, releases_of: Callable[[Images], Releases]) -> Releases:
    """Signed releases of it."""
    return releases_of(images)
