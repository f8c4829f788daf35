"""Looks for updates on a schedule."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from product.agent.config import Config
from product.agent.services.timer import into_window, main, seconds_until
from product.agent.tests.world import FakeRelease, Rebooted, World

NODES = [f"edge-{number:02d}" for number in range(50)]


def config(minutes: int, server: str | None = "http://updates.example") -> Config:
    return Config(server=server, check_interval=minutes)


@pytest.mark.parametrize("settings", [config(0), config(360, None)])
def test_without_an_interval_or_a_server_there_is_no_schedule(settings: Config) -> None:
    assert seconds_until(settings, "edge-07", first=True) is None


def test_a_node_looks_each_interval(world: World) -> None:
    assert seconds_until(config(360), "edge-07", first=False) == 360 * 60


def test_the_first_look_of_many_nodes_is_spread_and_that_of_one_is_stable() -> None:
    first = [seconds_until(config(360), name, first=True) for name in NODES]
    assert first == [seconds_until(config(360), name, first=True) for name in NODES]
    assert all(15 * 60 <= (seconds or 0) < 15 * 60 + 36 * 60 for seconds in first)
    assert len(set(first)) > 40


def test_a_short_interval_is_not_waited_for_longer_than_itself() -> None:
    assert 60 <= (seconds_until(config(1), "edge-07", first=True) or 0) < 66


def test_a_registry_is_looked_at_as_a_server_is() -> None:
    settings = config(360)._replace(server=None)
    assert seconds_until(settings, "edge-07", first=True) is None
    settings = settings._replace(registry="registry.example.com/kubesolo-os")
    assert seconds_until(settings, "edge-07", first=False) == 360 * 60


def test_a_jitter_of_ones_own() -> None:
    settings = config(360)._replace(check_jitter=180)
    first = [seconds_until(settings, name, first=True) or 0 for name in NODES]
    assert all(15 * 60 <= seconds < 15 * 60 + 180 * 60 for seconds in first)
    assert max(first) - min(first) > 120 * 60
    assert seconds_until(settings._replace(check_jitter=0), "edge-07", first=True) == 15 * 60


def test_nodes_of_one_name_are_spread_by_what_they_are(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    with Path(world.paths.config).open("a") as file:
        file.write("check_interval=360\n")
    world.write_file(world.paths.hostname, "kubesolo\n")
    answers = []
    for number in range(20):
        world.plug_in(mac=f"52:54:00:00:01:{number:02x}")
        assert main(["next", "first"], world.node()) == 0
        answers.append(capsys.readouterr().out)
    assert len(set(answers)) > 15


@pytest.mark.parametrize(
    ("window", "minutes", "expected"),
    [
        ("", 360, 360),
        ("11:00-19:00", 360, 360),
        # 18:00 would be in none of these, for ever.
        ("22:00-24:00", 360, 600),
        ("3:00-5:00", 360, 900),
        ("3:00-3:00", 360, 360),
    ],
)
def test_a_look_that_would_come_outside_the_window_waits_for_it(
    world: World, window: str, minutes: int, expected: int
) -> None:
    settings = config(minutes)._replace(maintenance_window=window)
    delays = [into_window(world.node(), settings, name, minutes * 60) for name in NODES]
    late = [delay - expected * 60 for delay in delays]
    if expected == minutes:
        assert set(late) == {0}
    else:
        assert all(0 <= seconds < 300 for seconds in late)
        assert len(set(late)) > 30


def test_no_node_looks_a_moment_before_the_window_opens(world: World) -> None:
    """It would be refused, and at the next opening again."""
    settings = config(360)._replace(maintenance_window="22:00-24:00")
    clock = world.clock
    clock.seconds += 0.7
    for number in range(2000):
        delay = into_window(world.node(), settings, f"edge-{number}", 360 * 60)
        assert clock.local_minute(clock.now() + delay) >= 22 * 60


def test_a_window_of_a_minute_is_not_missed_and_an_unknown_one_changes_nothing(
    world: World,
) -> None:
    settings = config(360)._replace(maintenance_window="22:00-22:01")
    for name in NODES:
        delay = into_window(world.node(), settings, name, 360 * 60)
        assert 600 * 60 <= delay < 601 * 60
    world.write_file(world.paths.timezone, "Asia/Tokio\n")
    assert into_window(world.node(), settings, "edge-07", 60) == 60
    Path(world.paths.timezone).unlink()
    settings = settings._replace(window_unknown="line 1")
    assert into_window(world.node(), settings, "edge-07", 60) == 60


def look(world: World) -> int | None:
    with contextlib.suppress(Rebooted):
        return main(["run"], world.node())
    return None


def test_a_look_installs_what_is_offered(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.offered = FakeRelease("0.2.0")
    assert look(world) is None
    assert world.reboots == 1
    assert world.env()["active_slot"] == "B"
    world.power_on()
    assert world.boot_service() == 0
    capsys.readouterr()
    assert look(world) == 0
    assert world.reboots == 1
    assert "0.2.0" in capsys.readouterr().out


def test_a_look_outside_the_window_says_so_and_changes_nothing(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    World.write_file(world.paths.config, "server=http://x/\nmaintenance_window=03:00-03:00\n")
    world.offered = FakeRelease("0.2.0")
    assert look(world) == 11
    assert world.reboots == 0
    assert "window" in capsys.readouterr().out


def test_a_look_that_somebody_inhibits_leaves_what_is_armed(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.offered = FakeRelease("0.2.0")
    inhibitor = Path(world.paths.inhibitors, "backup")
    world.write_file(str(inhibitor), "owner=backup\n")
    assert look(world) == 11
    assert "backup of backup" in capsys.readouterr().out
    assert (world.reboots, world.fetched) == (0, [])
    inhibitor.unlink()
    assert look(world) is None
    assert world.reboots == 1
