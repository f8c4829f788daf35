"""What scenarios share: releases for the architecture at hand, and where a node finds them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.arch import Arch
from harness.node import Node
from harness.webserver import WebServer
from scenarios.releases import Release, Releases
from scenarios.steps import Update, offer

if TYPE_CHECKING:
    from conftest import Images


@pytest.fixture(scope="session")
def releases(arch: Arch, images: Images, tmp_path_factory: pytest.TempPathFactory) -> Releases:
    """Signed releases, built when first asked for."""
    return Releases(images.builder(arch.value), tmp_path_factory.mktemp(f"releases-{arch}"))


@pytest.fixture
def serve(node: Node, webserver: Callable[[Path], WebServer]) -> Callable[..., Update]:
    """Offer a release to the node from a web server of its own."""

    def serve_one(release: Release, **settings: str) -> Update:
        server = webserver(release.repository)
        offer(node, release, server, **settings)
        return Update(node, release, server)

    return serve_one
