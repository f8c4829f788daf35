"""The world that the agent's tests act in."""

from __future__ import annotations

from pathlib import Path

import pytest

from product.agent.tests.world import World


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A confirmed node on slot A, version 0.1.0, with an empty slot B."""
    return World(tmp_path, monkeypatch)
