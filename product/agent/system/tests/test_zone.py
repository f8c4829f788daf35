"""A window is in the zone that somebody set, or it is closed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from product.agent.config import Config
from product.agent.system.paths import Paths
from product.agent.system.zone import window_unknown, zone_problem

WINDOW = Config(maintenance_window="02:00-04:00")


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    made = Paths(str(tmp_path))
    for path in (made.timezone, made.localtime):
        os.makedirs(os.path.dirname(path))
    return made


def link(paths: Paths, zone: str) -> None:
    os.symlink(f"/usr/share/zoneinfo/{zone}", paths.localtime)


@pytest.mark.parametrize("text", [None, "", "\n", "\ufeff\r\n"])
def test_without_a_zone_local_time_is_utc(paths: Paths, text: str | None) -> None:
    if text is not None:
        Path(paths.timezone).write_text(text)
    assert window_unknown(paths, WINDOW) is None


@pytest.mark.parametrize("text", ["Asia/Tokyo\n", "\ufeffAsia/Tokyo\r\n", "\n Asia/Tokyo"])
def test_a_zone_counts_once_it_is_linked(paths: Paths, text: str) -> None:
    Path(paths.timezone).write_text(text)
    assert "not that of 'Asia/Tokyo'" in (window_unknown(paths, WINDOW) or "")
    assert window_unknown(paths, Config()) is None
    link(paths, "Asia/Tokyo")
    assert window_unknown(paths, WINDOW) is None


def test_another_zone_than_that_of_the_boot_does_not_count(paths: Paths) -> None:
    Path(paths.timezone).write_text("Europe/Berlin\n")
    link(paths, "Asia/Tokyo")
    assert "or it was set after the boot" in (window_unknown(paths, WINDOW) or "")


def test_a_file_that_cannot_be_read_may_name_any_zone(paths: Paths) -> None:
    Path(paths.timezone).mkdir()
    assert "cannot be read" in (zone_problem(paths) or "")


def test_what_is_wrong_with_the_configuration_comes_first(paths: Paths) -> None:
    assert window_unknown(paths, Config(window_unknown="line 1")) == "line 1"
