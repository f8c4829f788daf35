"""Hooks that a project may implement beside pytest's, in a conftest.py or a plugin of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest


def pytest_harness_run_begins(config: pytest.Config, folder: Path) -> None:
    """A run of scenarios is about to begin; ``folder`` gets its evidence."""


def pytest_harness_run_ends(
    config: pytest.Config, run: Mapping[str, Any], stats: Mapping[str, Any]
) -> None:
    """A run of scenarios has ended: what ``run.json`` holds, and the terminal reporter's reports by
    how they count."""
