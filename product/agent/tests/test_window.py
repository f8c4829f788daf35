"""Maintenance windows."""

from __future__ import annotations

import calendar
import os
import time
from collections.abc import Iterator

import pytest

from product.agent.errors import ConfigError
from product.agent.system.clock import Clock
from product.agent.window import next_opening, window_is_open


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
        ("22:00-24:00", "21:59", False),
        ("22:00-24:00", "23:59", True),
        ("22:00-24:00", "00:00", False),
        ("00:00-24:00", "00:00", True),
        ("9:00-17:00", "08:59", False),
        ("9:00-17:00", "09:00", True),
        ("9:00-17:00", "16:59", True),
        ("9:00-17:00", "17:00", False),
        ("22:00-00:00", "23:30", True),
        ("22:00-00:00", "00:00", False),
    ],
)
def test_windows(window: str, clock: str, is_open: bool) -> None:
    assert window_is_open(window, at(clock)) is is_open


@pytest.mark.parametrize(
    "window",
    [
        "02:00",
        "24:00-01:00",
        "02:60-03:00",
        "-",
        "a:b-c:d",
        "02:00-04:00-05:00",
        "22:00-24:01",
        "22-24",
        "9:0-17:0",
        "009:00-17:00",
        ":00-:30",
        "22:00\u201324:00",
        "\u0662:00-3:00",
    ],
)
def test_not_windows(window: str) -> None:
    with pytest.raises(ConfigError, match="is not a window"):
        window_is_open(window, 0)


@pytest.fixture
def zone(request: pytest.FixtureRequest) -> Iterator[str]:
    """The process in a time zone, as /etc/localtime sets it on a node."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = request.param
    time.tzset()
    yield request.param
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


# Berlin's and Tokyo's rules as POSIX writes them: no host needs tzdata for them.
BERLIN, TOKYO = "CET-1CEST,M3.5.0,M10.5.0/3", "JST-9"


def moment(text: str) -> float:
    """Seconds since 1970 of a time in UTC, such as 2026-03-29 00:59."""
    return calendar.timegm(time.strptime(text, "%Y-%m-%d %H:%M"))


def open_minutes(window: str, first: str, hours: int) -> int:
    clock, begun = Clock(), moment(first)
    minutes = range(hours * 60)
    return sum(window_is_open(window, clock.local_minute(begun + 60 * n)) for n in minutes)


@pytest.mark.parametrize(
    ("zone", "clock", "text"),
    [
        (TOKYO, "2026-12-01 13:30", "22:30 JST +0900"),
        (BERLIN, "2026-03-29 00:59", "01:59 CET +0100"),
        (BERLIN, "2026-03-29 01:00", "03:00 CEST +0200"),
        (BERLIN, "2026-10-25 00:30", "02:30 CEST +0200"),
        (BERLIN, "2026-10-25 01:30", "02:30 CET +0100"),
        ("UTC0", "2026-10-25 01:30", "01:30 UTC +0000"),
    ],
    indirect=["zone"],
)
def test_the_time_of_day_is_that_of_the_zone(zone: str, clock: str, text: str) -> None:
    class Set(Clock):
        def now(self) -> float:
            return moment(clock)

    minute = Set().local_minute()
    assert f"{minute // 60:02}:{minute % 60:02} {Set().zone()}" == text


@pytest.mark.parametrize(
    ("zone", "window", "first", "minutes"),
    [
        # A day of 23 hours has no 02:00 to 03:00, and one of 25 has it twice.
        (BERLIN, "02:00-03:00", "2026-03-28 23:00", 0),
        (BERLIN, "01:30-03:30", "2026-03-28 23:00", 60),
        (BERLIN, "02:00-03:00", "2026-10-24 22:00", 120),
        (BERLIN, "01:30-02:30", "2026-10-24 22:00", 90),
        (BERLIN, "02:00-03:00", "2026-06-30 22:00", 60),
    ],
    indirect=["zone"],
)
def test_daylight_saving_skips_and_repeats_minutes_of_a_window(
    zone: str, window: str, first: str, minutes: int
) -> None:
    assert open_minutes(window, first, 24) == minutes


@pytest.mark.parametrize(
    ("zone", "window", "now", "opens"),
    [
        (BERLIN, "22:00-24:00", "2026-12-01 12:00", "2026-12-01 21:00"),
        (BERLIN, "22:00-24:00", "2026-12-01 22:00", "2026-12-01 22:00"),
        (BERLIN, "22:00-24:00", "2026-12-01 23:00", "2026-12-02 21:00"),
        (TOKYO, "22:00-24:00", "2026-12-01 12:00", "2026-12-01 13:00"),
        (BERLIN, "02:00-03:00", "2026-03-28 12:00", "2026-03-30 00:00"),
        (BERLIN, "02:30-03:00", "2026-10-25 01:15", "2026-10-25 01:30"),
        (BERLIN, "03:00-03:00", "2026-12-01 12:00", None),
        (BERLIN, "", "2026-12-01 12:00", "2026-12-01 12:00"),
    ],
    indirect=["zone"],
)
def test_when_a_window_opens_next(zone: str, window: str, now: str, opens: str | None) -> None:
    found = next_opening(window, moment(now), Clock().local_minute)
    assert found == (None if opens is None else moment(opens))
