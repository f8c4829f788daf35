"""The world that the agent's tests act in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from product.agent.tests.support_cluster import Authority, Cluster, FakeApi
from product.agent.tests.world import World


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A confirmed node on slot A, version 0.1.0, with an empty slot B."""
    return World(tmp_path, monkeypatch)


@pytest.fixture(scope="session")
def authorities() -> tuple[Authority, Authority]:
    """Who signs the API server's certificate, and who its clients'."""
    return Authority("server ca"), Authority("client ca")


@pytest.fixture
def cluster(
    world: World, tmp_path: Path, authorities: tuple[Authority, Authority]
) -> Iterator[Cluster]:
    """The same node with a Kubernetes that is well."""
    server, clients = authorities
    api = FakeApi(tmp_path, authority=server, clients=clients)
    made = Cluster(world, api, server, clients)
    yield made
    made.containerd.stop()
    api.stop()
