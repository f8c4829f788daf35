"""Versions and maintenance windows."""

from __future__ import annotations

import pytest

from product.agent.errors import ConfigError
from product.agent.update.window import window_is_open
from product.agent.version import VersionError, parse_version


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("1.2.3", (1, 2, 3)),
        ("v1.2.3", (1, 2, 3)),
        ("0.10.0-rc.1", (0, 10, 0)),
        ("1.2.3+build-5", (1, 2, 3)),
        (" 1.2.3\n", (1, 2, 3)),
    ],
)
def test_versions(text: str, version: tuple[int, int, int]) -> None:
    assert parse_version(text) == version


@pytest.mark.parametrize(
    "text", ["", "1.2", "1.2.3.4", "1.2.x", "vv1.2.3", "1.-2.3", "1..3", "\u0661.2.3"]
)
def test_not_versions(text: str) -> None:
    with pytest.raises(VersionError):
        parse_version(text)


def at(clock: str) -> int:
    return int(clock[:2]) * 60 + int(clock[3:])


@pytest.mark.parametrize(
    ("window", "clock", "is_open"),
    [
        ("", "12:00", True),
        ("  ", "00:00", True),
        ("02:00-04:00", "01:59", False),
        ("02:00-04:00", "02:00", True),
        ("02:00-04:00", "03:59", True),
        ("02:00-04:00", "04:00", False),
        ("23:00-01:00", "22:59", False),
        ("23:00-01:00", "23:00", True),
        ("23:00-01:00", "00:00", True),
        ("23:00-01:00", "00:59", True),
        ("23:00-01:00", "01:00", False),
        ("03:00-03:00", "03:00", False),
        ("00:00-00:00", "00:00", False),
        ("00:00-23:59", "23:58", True),
        (" 02:00 - 04:00 ", "03:00", True),
    ],
)
def test_windows(window: str, clock: str, is_open: bool) -> None:
    assert window_is_open(window, at(clock)) is is_open


@pytest.mark.parametrize(
    "window",
    ["02:00", "2:00-4:00", "24:00-01:00", "02:60-03:00", "-", "a:b-c:d", "02:00-04:00-05:00"],
)
def test_not_windows(window: str) -> None:
    with pytest.raises(ConfigError, match="is not a window"):
        window_is_open(window, 0)
