"""Nodes here begin on the minor version before; releases on offer carry the newest."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from product.image.cache import Cache
from product.image.tools import IMAGES, HostTools
from scenarios.kubectl import RECIPE
from scenarios.releases import Releases

if TYPE_CHECKING:
    from conftest import Images

BEFORE = IMAGES / "upstream-1.35.toml"


@pytest.fixture(scope="session")
def images(cache: Cache, host_tools: HostTools) -> Images:
    """The image with the minor version before."""
    from conftest import Images

    return Images(cache, host_tools, recipe=BEFORE)


@pytest.fixture(scope="session")
def releases(
    cache: Cache, host_tools: HostTools, releases_of: Callable[[Images], Releases]
) -> Releases:
    """Signed releases with the newest minor version."""
    from conftest import Images

    return releases_of(Images(cache, host_tools, recipe=RECIPE))


@pytest.fixture(scope="session")
def releases_before(images: Images, releases_of: Callable[[Images], Releases]) -> Releases:
    """Signed releases with the minor version before."""
    return releases_of(images)
